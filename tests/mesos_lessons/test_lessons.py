"""What broke Kubernetes on Mesos, each as a story: two schedulers that did not know of each other's machines, ports,
containers and restarts. Here both faces stand on one pool."""

import json
import os
import pathlib
import queue
import subprocess
import sys
import time
import urllib.request

import pytest
from addict import Dict

from conftest import STOA, free_port, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "pymesos"))
from framework import Framework  # noqa: E402


@pytest.fixture
def framework(cluster, request):
    f = Framework(cluster.mesos, name=request.node.name[:40])
    f.registered()
    yield f
    f.stop()


def pod(name, command="sleep 600", **spec):
    container = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command],
                 "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}}}
    container.update(spec.pop("container", {}))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}}


def wait_ready(cluster, namespace, *names):
    for name in names:
        cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=30s")


def task(offer, task_id, command, **more):
    info = Dict(name=task_id, agent_id=offer["agent_id"], **more)
    info.task_id.value = task_id
    info.command = Dict(value=command, shell=True)
    info.resources = [Dict(name="cpus", type="SCALAR", scalar=Dict(value=0.1)),
                      Dict(name="mem", type="SCALAR", scalar=Dict(value=32))]
    return info


def processes(marker):
    found = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True).stdout.split()
    return [p for p in found if int(p) != os.getpid()]


def mesos_state(cluster):
    return json.load(urllib.request.urlopen(f"http://{cluster.mesos}/master/state", timeout=5))


def test_placement_rules_and_agents_attributes_are_one_thing(cluster, framework, namespace):
    """Lesson 1: pods had no placement rules. A label of the node is an attribute of the agent, for both kinds."""
    cluster.apply(pod("picky", nodeSelector={"attribute.stoa.dev/rack": "r7"}), "-n", namespace)
    until(lambda: "didn't match" in cluster.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={..message}")
          or "match" in cluster.kubectl("describe", "pod", "-n", namespace, "picky"), what="the reason why it waits")
    node = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    cluster.kubectl("label", "node", node, "attribute.stoa.dev/rack=r7")
    try:
        wait_ready(cluster, namespace, "picky")

        def rack():
            offer = framework.offer()
            framework.driver.declineOffer(offer["id"], {"refuse_seconds": 0})
            return {a["name"]: a.get("text", {}).get("value") for a in offer["attributes"]}.get("rack")

        until(lambda: rack() == "r7", what="an offer with the attribute")
    finally:
        cluster.kubectl("label", "node", node, "attribute.stoa.dev/rack-")


def test_a_host_port_outside_the_offered_range_is_given_and_a_taken_one_is_explained(cluster, namespace):
    """Lesson 2: a hostPort outside of the agent's `ports` was never scheduled, without a word."""
    port = free_port()
    ports = {"container": {"ports": [{"containerPort": 80, "hostPort": port}]}}
    cluster.apply(pod("first", **ports), "-n", namespace)
    wait_ready(cluster, namespace, "first")
    cluster.apply(pod("second", **ports), "-n", namespace)
    until(lambda: "port" in cluster.kubectl("get", "events", "-n", namespace, "--field-selector",
                                            "involvedObject.name=second", "-o", "jsonpath={..message}"),
          what="an event that names the ports")
    cluster.kubectl("delete", "pod", "-n", namespace, "first")
    wait_ready(cluster, namespace, "second")


def test_a_port_that_was_not_asked_for_is_not_published(cluster, namespace):
    """Lesson 3: a container port without hostPort got a random one."""
    cluster.apply(pod("plain", container={"ports": [{"containerPort": 80}]}), "-n", namespace)
    wait_ready(cluster, namespace, "plain")
    ports = cluster.json("get", "pod", "-n", namespace, "plain")["spec"]["containers"][0]["ports"]
    assert all(p.get("hostPort", 0) == 0 for p in ports), ports


def test_a_slow_end_leaves_no_orphan_and_is_told_when_it_is_over(cluster, framework):
    """Lesson 6: a container that took longer to stop than its executor was orphaned."""
    marker = f"slow-{time.time_ns()}"
    offer = framework.offer()
    # Longer than the executor's five seconds: the grace period is the task's own.
    slow = task(offer, marker, f"trap 'sleep 6; exit 0' TERM; echo {marker}; while :; do sleep 0.1; done",
                kill_policy={"grace_period": {"nanoseconds": 20_000_000_000}})
    framework.driver.launchTasks(offer["id"], [slow])
    framework.wait_states({marker: "TASK_RUNNING"})
    until(lambda: processes(marker), what="its process")
    begun = time.monotonic()
    framework.driver.killTask({"value": marker})
    seen = framework.wait_states({marker: "TASK_FINISHED"})
    assert time.monotonic() - begun >= 5, seen
    assert not processes(marker)


def test_a_framework_that_goes_leaves_nothing_behind(cluster):
    """Lesson 7: pods ran on when their executor died or the framework was uninstalled."""
    marker = f"leftover-{time.time_ns()}"
    f = Framework(cluster.mesos, name="goner")
    f.registered()
    offer = f.offer()
    f.driver.launchTasks(offer["id"], [task(offer, marker, f"echo {marker}; sleep 600 & sleep 600; wait")])
    f.wait_states({marker: "TASK_RUNNING"})
    until(lambda: processes(marker), what="its process")
    f.stop()
    until(lambda: not processes(marker), what="its processes to go")


def test_pods_need_no_offer_and_hoarded_offers_do_not_starve_them(cluster, framework, namespace):
    """Lesson 14: one pod for an offer, each waiting for the next; offers that were held blocked the cluster."""
    held = framework.offer()
    names = [f"burst-{n}" for n in range(6)]
    for name in names:
        cluster.apply(pod(name), "-n", namespace)
    wait_ready(cluster, namespace, *names)
    big = pod("big", container={"resources": {"requests": {"cpu": "2500m", "memory": "64Mi"}}})
    cluster.apply(big, "-n", namespace)
    wait_ready(cluster, namespace, "big")
    framework.driver.declineOffer(held["id"], {"refuse_seconds": 0})


def test_pods_have_addresses_of_their_own(cluster, namespace):
    """Lesson 15: services led to host ports, since pods had no addresses that others could reach."""
    cluster.apply(pod("a"), "-n", namespace)
    cluster.apply(pod("b"), "-n", namespace)
    wait_ready(cluster, namespace, "a", "b")
    status = {n: cluster.json("get", "pod", "-n", namespace, n)["status"] for n in "ab"}
    assert len({s["podIP"] for s in status.values()} | {status["a"]["hostIP"]}) == 3, status
    cluster.kubectl("exec", "-n", namespace, "a", "--", "ping", "-c", "1", "-W", "5", status["b"]["podIP"])


def test_a_running_pod_sees_its_changes(cluster, namespace):
    """Lesson 16: labels of a launched pod were frozen, as a task's description is."""
    volume = {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
    manifest = pod("watcher", "until grep -q colour /info/labels; do sleep 0.2; done; echo seen; sleep 600",
                   volumes=[volume], container={"volumeMounts": [{"name": "info", "mountPath": "/info"}]})
    cluster.apply(manifest, "-n", namespace)
    wait_ready(cluster, namespace, "watcher")
    cluster.kubectl("label", "pod", "-n", namespace, "watcher", "colour=green")
    until(lambda: "seen" in cluster.kubectl("logs", "-n", namespace, "watcher"), what="the label in the pod's file")


def test_a_task_is_looked_into_like_any_pod(cluster, framework):
    """Lesson 17: exec, logs and port-forward did not reach the agent."""
    port = free_port()
    offer = framework.offer()
    command = f"echo serving; exec {sys.executable} -m http.server --bind 127.0.0.1 {port}"
    framework.driver.launchTasks(offer["id"], [task(offer, "served", command)])
    framework.wait_states({"served": "TASK_RUNNING"})
    name = next(p["metadata"]["name"] for p in cluster.json("get", "pods", "-n", "mesos")["items"]
                if p["metadata"]["annotations"].get("stoa.dev/task-id") == "served")
    until(lambda: "serving" in cluster.kubectl("logs", "-n", "mesos", name), what="its log")
    assert cluster.kubectl("exec", "-n", "mesos", name, "--", "echo", "inside").strip() == "inside"
    local = free_port()
    forward = cluster.popen("port-forward", "-n", "mesos", f"pod/{name}", f"{local}:{port}", stdout=subprocess.PIPE)
    try:
        assert "Forwarding" in forward.stdout.readline()
        until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=5).status == 200, what="an answer")
    finally:
        forward.terminate()
        forward.wait(timeout=10)
    framework.driver.killTask({"value": "served"})
    framework.wait_states({"served": "TASK_KILLED"})


def test_a_machine_is_a_node_before_any_framework_comes(cluster):
    """Lesson 20: a machine was no node until it had been offered and accepted."""
    nodes = cluster.json("get", "nodes")["items"]
    slaves = mesos_state(cluster)["slaves"]
    assert [n["metadata"]["name"] for n in nodes] == [s["id"] for s in slaves]


def test_what_cannot_start_is_told_and_does_not_stay_staging(cluster, framework):
    """Lesson 22: tasks were stuck in STAGING, and the two faces told different states."""
    offer = framework.offer()
    lost = task(offer, "imageless", "true")
    lost.container = Dict(type="MESOS")
    lost.container.mesos.image = Dict(type="DOCKER", docker=Dict(name="no.such/image:1"))
    framework.driver.launchTasks(offer["id"], [lost])
    update = framework.wait_states({"imageless": "TASK_FAILED"})[-1][2]
    assert update["reason"] == "REASON_CONTAINER_LAUNCH_FAILED", update
    tasks = [t for f in mesos_state(cluster)["frameworks"] for t in f["tasks"] if t["id"] == "imageless"]
    assert all(t["state"] != "TASK_STAGING" for t in tasks), tasks


def test_every_pod_is_a_task_and_every_task_a_pod(cluster, framework, namespace):
    """Lesson 22, the other half: one record, two faces."""
    cluster.apply(pod("shown"), "-n", namespace)
    wait_ready(cluster, namespace, "shown")
    kubernetes = next(f for f in mesos_state(cluster)["frameworks"] if f["name"] == "kubernetes")
    assert any(t["id"] == f"{namespace}.shown" and t["state"] == "TASK_RUNNING" for t in kubernetes["tasks"])


def test_what_is_mounted_in_a_sandbox_survives_its_end(cluster):
    """Lesson 12: the garbage collection of sandboxes ran over what was mounted in them."""
    f = Framework(cluster.mesos, name="mounted")
    framework_id = f.registered()
    offer = f.offer()
    f.driver.launchTasks(offer["id"], [task(offer, "mounter", "mkdir data; sleep 600")])
    f.wait_states({"mounter": "TASK_RUNNING"})
    sandbox = until(lambda: next((cluster.data_dir / "agent/sandboxes").glob(f"{framework_id}/mounter/*/data"), None),
                    what="the task's sandbox")
    precious = cluster.data_dir.parent / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    subprocess.run(["mount", "--bind", precious, sandbox], check=True)
    try:
        f.stop()
        until(lambda: all(x["id"] != framework_id for x in mesos_state(cluster)["frameworks"]), what="its end")
        time.sleep(2)
        assert (precious / "file").read_text() == "kept"
    finally:
        subprocess.run(["umount", sandbox], check=False)


def test_an_agent_that_changes_keeps_its_work_and_goes_on(own_cluster):
    """Lessons 8 to 10: changed flags or a restart of scheduler or master cost all pods. Here neither kind notices."""
    cluster = own_cluster
    f = Framework(cluster.mesos, name="steady")
    f.registered()
    offer = f.offer()
    f.driver.launchTasks(offer["id"], [task(offer, "steady", "sleep 600")])
    f.wait_states({"steady": "TASK_RUNNING"})
    cluster.apply(pod("steady"))
    wait_ready(cluster, "default", "steady")
    ids = lambda: sorted(c["containerID"] for p in cluster.json("get", "pods", "-A")["items"]
                         for c in p["status"].get("containerStatuses", []))
    before = ids()
    cluster.stop()
    cluster.resources = "cpus:3;mem:3072;ports:[31000-32000]"
    cluster.start().wait_node()
    f.registered(seconds=60)
    f.driver.reconcileTasks([])
    f.wait_states({"steady": "TASK_RUNNING"})
    assert ids() == before
    offer = f.offer(seconds=60)
    f.driver.launchTasks(offer["id"], [task(offer, "next", "true")])
    f.wait_states({"next": "TASK_FINISHED"})
    f.stop()


def test_a_task_gets_its_ports_from_ranges_with_gaps(own_cluster):
    """Lesson 4: of ports in several ranges only the first was handed on."""
    cluster = own_cluster
    cluster.stop()
    cluster.resources = "cpus:4;mem:4096;ports:[31000-31001,31005-31005,31010-31012]"
    cluster.start().wait_node()
    f = Framework(cluster.mesos, name="gaps")
    f.registered()
    ranges = lambda offer: [(r["begin"], r["end"]) for p in offer["resources"] if p["name"] == "ports" for r in p["ranges"]["range"]]
    offer = until(lambda: next((o for o in [f.offer()] if ranges(o) == [(31000, 31001), (31005, 31005), (31010, 31012)]), None),
                  what="an offer of all ranges")
    wanted = [(31001, 31001), (31005, 31005), (31011, 31012)]
    t = task(offer, "gaps", "sleep 600")
    t.resources.append(Dict(name="ports", type="RANGES", ranges=Dict(range=[Dict(begin=b, end=e) for b, e in wanted])))
    f.driver.launchTasks(offer["id"], [t])
    f.wait_states({"gaps": "TASK_RUNNING"})
    (shown,) = cluster.json("get", "pods", "-A", "-l", "stoa.dev/task-id=gaps")["items"]
    ports = [p["hostPort"] for p in shown["spec"]["containers"][0]["ports"]]
    assert ports == [31001, 31005, 31011, 31012]
    until(lambda: ranges(f.offer()) == [(31000, 31000), (31010, 31010)], what="what is left to be offered")
    f.stop()


def test_requests_are_what_is_booked_and_limits_what_bounds(cluster, framework, namespace):
    """Lesson 13: pods were charged by their limits, or a fixed amount, and the books were wrong until a restart."""
    cpus = lambda: mesos_state(cluster)["slaves"][0]["used_resources"]["cpus"]
    before = cpus()
    offer = framework.offer()
    wide = task(offer, "wide", "sleep 600")
    wide.limits = Dict(cpus=Dict(value=1.5))
    framework.driver.launchTasks(offer["id"], [wide])
    framework.wait_states({"wide": "TASK_RUNNING"})
    assert round(cpus() - before, 3) == 0.1
    (shown,) = cluster.json("get", "pods", "-A", "-l", "stoa.dev/task-id=wide")["items"]
    resources = shown["spec"]["containers"][0]["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == ("100m", "1500m")
    cluster.apply(pod("asks", container={"resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "2"}}}), "-n", namespace)
    cluster.apply(pod("silent", container={"resources": {}}), "-n", namespace)
    wait_ready(cluster, namespace, "asks", "silent")
    until(lambda: round(cpus() - before, 3) == 0.35, what="requests alone to be booked")
    cluster.kubectl("delete", "pod", "-n", namespace, "asks", "silent", "--now")
    until(lambda: round(cpus() - before, 3) == 0.1, what="the books to be right without a restart")


def test_static_pods_follow_their_folder_and_are_in_the_books(own_cluster):
    """Lesson 18: the folder was read once, and nobody counted what ran from it."""
    cluster = own_cluster
    cluster.stop()
    folder = cluster.data_dir.parent / "manifests"
    folder.mkdir()
    cluster.start("--static-pods", folder).wait_node()
    cpus = lambda: mesos_state(cluster)["slaves"][0]["used_resources"]["cpus"]
    before = cpus()
    write = lambda cpu: (folder / "own.json").write_text(json.dumps(
        pod("own", hostNetwork=True, container={"resources": {"requests": {"cpu": cpu}}})))
    write("300m")
    until(lambda: round(cpus() - before, 3) == 0.3, what="the pod from the folder in the books")
    write("700m")
    until(lambda: round(cpus() - before, 3) == 0.7, what="its next edition in the books")
    (folder / "own.json").unlink()
    until(lambda: round(cpus() - before, 3) == 0.0, what="its room to be free")


def test_a_namespace_is_a_role_and_a_role_a_namespace(cluster, namespace):
    """Lesson 19: there was one role for all, and no quota for a namespace."""
    cluster.kubectl("label", "namespace", namespace, "stoa.dev/role=tenant")
    cluster.apply(pod("paid", container={"resources": {"requests": {"cpu": "200m", "memory": "8Mi"}}}), "-n", namespace)
    wait_ready(cluster, namespace, "paid")
    f = Framework(cluster.mesos, name="tenant", roles=["tenant"], capabilities=[Dict(type="MULTI_ROLE")])
    f.registered()
    offer = f.offer()
    mine = task(offer, "tenants", "sleep 600")
    for r in mine.resources:
        r.allocation_info = Dict(role="tenant")
    f.driver.launchTasks(offer["id"], [mine])
    f.wait_states({"tenants": "TASK_RUNNING"})
    (shown,) = cluster.json("get", "pods", "-A", "-l", "stoa.dev/task-id=tenants")["items"]
    assert shown["metadata"]["annotations"]["stoa.dev/role"] == "tenant"
    own = cluster.json("get", "namespace", shown["metadata"]["namespace"])
    assert own["metadata"]["labels"]["stoa.dev/role"] == "tenant"

    consumed = lambda: round(next(r["quota"]["consumed"].get("cpus", 0) for r in json.load(
        urllib.request.urlopen(f"http://{cluster.mesos}/master/roles", timeout=5))["roles"] if r["name"] == "tenant"), 3)
    # The role's offers are out as well; what runs is what its quota counts.
    until(lambda: consumed() >= 0.3, what="pod and task in one account")
    f.stop()


def test_two_clusters_share_a_machine(cluster, own_cluster, namespace):
    """Lesson 21: proxies and firewalls of two clusters on one machine broke each other."""
    served = {}
    for c, ns in [(cluster, namespace), (own_cluster, "default")]:
        web = pod("web", "mkdir /www; echo web-" + c.id + " > /www/index.html; httpd -f -p 8080 -h /www")
        web["metadata"]["labels"] = {"app": "web"}
        c.apply(web, "-n", ns)
        c.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                 "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}, "-n", ns)
        c.apply(pod("client"), "-n", ns)
        wait_ready(c, ns, "web", "client")
        ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 web 80 | tail -n 1"
        served[c] = lambda c=c, ns=ns: c.kubectl("exec", "-n", ns, "client", "--", "sh", "-c", ask, check=False)
    for c in (cluster, own_cluster):
        until(lambda: served[c]() == f"web-{c.id}\n", what="each cluster's own answer")
    own_cluster.down()
    assert served[cluster]() == f"web-{cluster.id}\n", "the other's end is none of ours"


def test_everything_is_one_program(cluster, namespace):
    """Lesson 23: store, API server and names had to be run beside it."""
    # The helpers run sealed copies of it, out of anybody's reach.
    pids = [line.split()[0] for line in cluster.processes()]
    sizes = {os.stat(f"/proc/{pid}/exe").st_size for pid in pids if os.path.exists(f"/proc/{pid}/exe")}
    assert sizes == {os.stat(STOA).st_size}, cluster.processes()
    cluster.apply(pod("asks"), "-n", namespace)
    wait_ready(cluster, namespace, "asks")
    address = cluster.json("get", "service", "kubernetes")["spec"]["clusterIP"]
    found = until(lambda: cluster.kubectl("exec", "-n", namespace, "asks", "--", "nslookup", "kubernetes.default.svc.cluster.local",
                                          check=False), what="the cluster's names")
    assert address in found, found
