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

from conftest import free_port, until

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
