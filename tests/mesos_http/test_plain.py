"""Schedulers without a library, and the operator's calls, against the real binary."""

import base64
import json
import pathlib
import sys
import time

import pytest
from plain import Json, Protobuf, Stream, get, operator, port_ranges, ports, scalar, task

from conftest import until


HERE = pathlib.Path(__file__).resolve().parent


def info(name, **more):
    return {"user": "root", "name": name, "failover_timeout": 60, **more}


def multi(name, roles, **more):
    capabilities = ["MULTI_ROLE", "RESERVATION_REFINEMENT", "PARTITION_AWARE"]
    return info(name, roles=roles, capabilities=[{"type": c} for c in capabilities], **more)


@pytest.fixture
def scheduler(cluster):
    s = Json(cluster.mesos, info("plain"))
    yield s
    s.stop()


def lent(offer, name="cpus"):
    found = [r for r in offer["resources"] if "revocable" in r and r["name"] == name]
    return found[0]["scalar"]["value"] if found else 0


def test_what_an_agent_lends_is_used_beside_what_it_has_and_taken_back(own_cluster):
    cluster = own_cluster
    cluster.stop()
    cluster.start("--revocable-resources", "cpus:3;mem:64")
    has = lambda: get(cluster.mesos, "/slaves")["slaves"][0]["resources"]
    until(lambda: has()["cpus_revocable"] == 3 and has()["cpus"] > 0, what="what it has and lends")
    cpus = has()["cpus"]
    keeps = Json(cluster.mesos, info("keeps"))
    offer = keeps.offer()
    assert not lent(offer)
    # All that is not lent is taken; what is lent is beside it.
    keeps.launch(offer, [task("kept", offer, "sleep 600", resources=[r for r in offer["resources"] if r["name"] in ("cpus", "mem")])])
    keeps.wait("kept", "TASK_RUNNING")
    lends = Json(cluster.mesos, info("lends", capabilities=[{"type": "REVOCABLE_RESOURCES"}, {"type": "PARTITION_AWARE"}]))
    offer = lends.offer(lent)
    assert (lent(offer), lent(offer, "mem")) == (3, 64)
    revocable = [{**scalar("cpus", 2), "revocable": {}}, {**scalar("mem", 64), "revocable": {}}]
    lends.launch(offer, [task("mixed", offer, "true", resources=[*revocable, scalar("cpus", 1)]),
                         task("lent", offer, "sleep 600", resources=revocable)])
    lends.wait("lent", "TASK_RUNNING")
    slave = get(cluster.mesos, "/slaves")["slaves"][0]
    assert slave["used_resources"]["cpus_revocable"] == 2 and slave["used_resources"]["cpus"] == cpus
    (pod,) = cluster.json("get", "pods", "-A", "-l", "stoa.dev/task-id=lent")["items"]
    wanted = pod["spec"]["containers"][0]["resources"]
    assert wanted["requests"]["cpu"] == "0" and wanted["limits"] == {"memory": str(64 << 20)}, wanted
    assert lent(lends.offer(lent)) == 1, "the rest is offered again"
    # It is remembered across a death; and when the machine has too much to do, it is taken back.
    cluster.kill9()
    cluster.start("--revocable-resources", "cpus:3;mem:64", "--qos-load-5min=-1")
    again = Json(cluster.mesos, info("lends", id=lends.id, capabilities=[{"type": "REVOCABLE_RESOURCES"}, {"type": "PARTITION_AWARE"}]))
    status = again.wait("lent", "TASK_GONE", seconds=60)
    assert status["reason"] == "REASON_CONTAINER_PREEMPTED" and "was lent is taken back" in status["message"], status
    offered = 0
    while offered < 3:
        offered += lent(again.offer(lent))
    assert offered == 3, "all that is lent is offered again"
    kept = [t for f in get(cluster.mesos, "/state")["frameworks"] for t in f["tasks"] if t["id"] == "kept"]
    assert kept[0]["state"] == "TASK_RUNNING", "what was not lent stays"


def test_tasks_of_an_executor_give_back_what_was_lent_to_them(own_cluster):
    cluster = own_cluster
    cluster.stop()
    lending = ["--revocable-resources", "cpus:2"]
    cluster.start(*lending)
    until(lambda: get(cluster.mesos, "/slaves")["slaves"][0]["resources"]["cpus_revocable"] == 2, what="what it lends")
    who = info("aware", failover_timeout=600, capabilities=[{"type": "REVOCABLE_RESOURCES"}, {"type": "PARTITION_AWARE"}])
    s = Json(cluster.mesos, who)
    offer = s.offer(lent)
    executor = {"type": "CUSTOM", "executor_id": {"value": "lent"}, "resources": [scalar("cpus", 0.1), scalar("mem", 32)],
                "command": {"value": f"exec {sys.executable} {HERE / 'protobuf_executor.py'}"}}
    entry = task("lent", offer, "", executor=executor, data=base64.b64encode(b"hold").decode(),
                 resources=[{**scalar("cpus", 1), "revocable": {}}, scalar("mem", 32)])
    del entry["command"]
    s.launch(offer, [entry])
    s.wait("lent", "TASK_RUNNING")
    cluster.kill9()
    cluster.start(*lending, "--qos-load-5min=-1")
    s = Json(cluster.mesos, {**who, "id": s.id})
    status = s.wait("lent", "TASK_GONE", seconds=60)
    assert status["reason"] == "REASON_CONTAINER_PREEMPTED", status
    offered = 0
    while offered < 2:
        offered += lent(s.offer(lent))
    assert offered == 2
    s.stop()


def docker(name, offer, command, parameters, **more):
    listed = [{"key": k, "value": v} for k, v in parameters]
    return task(name, offer, command, container={"type": "DOCKER", "docker": {"image": "busybox", "parameters": listed, **more}})


def test_dockers_raw_parameters_do_what_docker_run_does(cluster, scheduler):
    offer = scheduler.offer()
    show = "echo $COLOUR; grep CapBnd /proc/self/status; id -u; pwd; grep -w db /etc/hosts; cat /seen/hostname; df -k /dev/shm | tail -1"
    parameters = [("env", "COLOUR=green"), ("cap-drop", "ALL"), ("cap-add", "NET_RAW"), ("user", "7:8"), ("workdir", "/tmp"),
                  ("add-host", "db:192.0.2.1"), ("volume", "/etc/hostname:/seen/hostname:ro"), ("shm-size", "1m")]
    scheduler.launch(offer, [docker("flags", offer, show, parameters, network="BRIDGE"),
                             docker("all", offer, "grep CapBnd /proc/self/status", [], privileged=True)])
    scheduler.wait_all({"flags": "TASK_FINISHED", "all": "TASK_FINISHED"})
    offer = scheduler.offer()
    scheduler.launch(offer, [docker("bad", offer, "true", [("device", "/dev/x")])])
    assert "Docker parameter 'device' is not supported" in scheduler.wait("bad", "TASK_ERROR")["message"]

    def output(name):
        (pod,) = cluster.json("get", "pods", "-A", "-l", f"stoa.dev/task-id={name}")["items"]
        return cluster.kubectl("logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"]).splitlines()

    lines = output("flags")
    assert lines[0] == "green" and lines[1].split()[1] == f"{1 << 13:016x}" and lines[2:4] == ["7", "/tmp"], lines
    assert lines[4].split() == ["192.0.2.1", "db"] and lines[5].strip() and lines[6].split()[1] == "1024", lines
    assert int(output("all")[0].split()[1], 16) > 1 << 30


def test_plain_json_runs_a_task_that_both_faces_see(cluster, scheduler):
    offer = scheduler.offer()
    scheduler.launch(offer, [task("hello", offer, "echo hello; sleep 600")])
    scheduler.wait("hello", "TASK_RUNNING")
    pods = cluster.json("get", "pods", "-A", "-l", "stoa.dev/task-id=hello")["items"]
    assert len(pods) == 1, pods
    shown = [t for f in get(cluster.mesos, "/master/state.json")["frameworks"] for t in f["tasks"]]
    assert any(t["id"] == "hello" and t["state"] == "TASK_RUNNING" for t in shown), shown
    listed = operator(cluster.mesos, "GET_TASKS")["tasks"]
    assert any(t["task_id"]["value"] == "hello" for t in listed), listed
    scheduler.call({"type": "KILL", "kill": {"task_id": {"value": "hello"}}})
    scheduler.wait("hello", "TASK_KILLED")


def test_protobuf_runs_a_task(cluster):
    s = Protobuf(cluster.mesos, "protobuf")
    assert s.run("good", "true") == [0, 1, 2], "starting, running, finished"
    s.stop()


def test_an_executor_in_protobuf_runs_many_tasks(cluster, scheduler):
    executor = {"type": "CUSTOM", "executor_id": {"value": "pb"}, "resources": [scalar("cpus", 0.1), scalar("mem", 32)],
                "command": {"value": f"exec {sys.executable} {HERE / 'protobuf_executor.py'}"}}

    def entry(name, offer, data):
        t = task(name, offer, "", executor=executor, data=base64.b64encode(data).decode())
        del t["command"]
        return t

    offer = scheduler.offer()
    scheduler.launch(offer, [entry("one", offer, b"abc"), entry("two", offer, b"hold")])
    seen = {}
    while seen.get("one", {}).get("state") != "TASK_FINISHED" or seen.get("two", {}).get("state") != "TASK_RUNNING":
        status = scheduler.expect("UPDATE")["update"]["status"]
        scheduler.acknowledge(status)
        seen[status["task_id"]["value"]] = status
    assert base64.b64decode(seen["one"]["data"]) == b"ABC" and seen["one"]["executor_id"]["value"] == "pb"
    # Another task under the same executor, which runs already; then an end from outside.
    offer = scheduler.offer()
    scheduler.launch(offer, [entry("three", offer, b"xyz")])
    scheduler.wait("three", "TASK_FINISHED")
    (pod,) = cluster.json("get", "pods", "-A", "-l", "stoa.dev/executor-id=pb")["items"]
    scheduler.call({"type": "KILL", "kill": {"task_id": {"value": "two"}}})
    scheduler.wait("two", "TASK_KILLED")
    said = lambda: cluster.kubectl("logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"])
    until(lambda: "acknowledged two 16" in said(), what="the acknowledgements at the executor")


def test_a_pod_is_a_task_of_the_framework_kubernetes(cluster, namespace):
    cluster.kubectl("run", "seen", "-n", namespace, "--image=busybox", "--image-pull-policy=IfNotPresent", "--",
                    "sleep", "600")
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/seen", "--timeout=30s")
    tasks = lambda: {f["name"]: f for f in get(cluster.mesos, "/state")["frameworks"]}["kubernetes"]["tasks"]
    until(lambda: any(t["name"] == "seen" and t["state"] == "TASK_RUNNING" for t in tasks()), what="the pod's task")
    cluster.kubectl("delete", "pod", "-n", namespace, "seen", "--grace-period=0", "--force")


def test_a_volume_outlives_its_task(cluster):
    s = Json(cluster.mesos, multi("stateful", ["db"]))
    def reserved(name, value, **more):
        return scalar(name, value, reservations=[{"type": "DYNAMIC", "role": "db"}], **more)
    volume = reserved("disk", 64, disk={"persistence": {"id": "data-1"},
                                        "volume": {"container_path": "data", "mode": "RW"}})
    offer = s.offer()
    s.accept(offer, [
        {"type": "RESERVE", "reserve": {"resources": [reserved("cpus", 0.2), reserved("mem", 64), reserved("disk", 64)]}},
        {"type": "CREATE", "create": {"volumes": [volume]}},
    ])

    def has_volume(o):
        return any("persistence" in r.get("disk", {}) for r in o["resources"])

    for name, command in [("writer", "echo kept > $MESOS_SANDBOX/data/file"), ("reader", "grep kept $MESOS_SANDBOX/data/file")]:
        offer = s.offer(has_volume)
        s.launch(offer, [task(name, offer, command, resources=[reserved("cpus", 0.2), reserved("mem", 64), volume])])
        s.wait(name, "TASK_FINISHED")
    offer = s.offer(has_volume)
    s.accept(offer, [
        {"type": "DESTROY", "destroy": {"volumes": [volume]}},
        {"type": "UNRESERVE", "unreserve": {"resources": [reserved("cpus", 0.2), reserved("mem", 64), reserved("disk", 64)]}},
    ])
    until(lambda: get(cluster.mesos, "/slaves")["slaves"][0]["reserved_resources"] == {}, what="the reservation to end")
    s.stop()


def test_operators_share_out_the_cluster(cluster):
    operator(cluster.mesos, "UPDATE_WEIGHTS", weight_infos=[{"role": "heavy", "weight": 3.0}])
    assert {"role": "heavy", "weight": 3.0} in operator(cluster.mesos, "GET_WEIGHTS")["weight_infos"]
    operator(cluster.mesos, "UPDATE_QUOTA", quota_configs=[{"role": "small", "limits": {"cpus": {"value": 0.5}}}])
    s = Json(cluster.mesos, multi("small", ["small"]))
    cpus = [r["scalar"]["value"] for r in s.offer()["resources"] if r["name"] == "cpus"]
    assert cpus == [0.5], cpus
    s.stop()
    operator(cluster.mesos, "UPDATE_QUOTA", quota_configs=[{"role": "small"}])


def test_the_operators_stream_tells_what_happens(cluster, scheduler):
    stream = Stream(cluster.mesos, "/api/v1", json.dumps({"type": "SUBSCRIBE"}), "application/json", json.loads)
    first = stream.events.get(timeout=10)
    assert first["type"] == "SUBSCRIBED" and first["subscribed"]["get_state"]["get_agents"]["agents"]
    offer = scheduler.offer()
    scheduler.launch(offer, [task("told", offer, "true")])
    scheduler.wait("told", "TASK_FINISHED")
    states, deadline = [], time.monotonic() + 20
    while "TASK_FINISHED" not in states and time.monotonic() < deadline:
        event = stream.events.get(timeout=20)
        if event["type"] == "TASK_UPDATED" and event["task_updated"]["status"]["task_id"]["value"] == "told":
            states.append(event["task_updated"]["state"])
    assert states[-1] == "TASK_FINISHED", states
    stream.close()


def test_the_operators_stream_is_whole_again_after_a_restart(own_cluster):
    cluster = own_cluster
    s = Json(cluster.mesos, info("steady", failover_timeout=600))
    offer = s.offer()
    s.launch(offer, [task("steady", offer, "sleep 600")])
    s.wait("steady", "TASK_RUNNING")
    subscribe = lambda: Stream(cluster.mesos, "/api/v1", json.dumps({"type": "SUBSCRIBE"}), "application/json", json.loads)
    before = subscribe().events.get(timeout=10)["subscribed"]["get_state"]
    cluster.kill9()
    cluster.start()
    stream = until(lambda: subscribe(), what="another stream")
    state = stream.events.get(timeout=10)["subscribed"]["get_state"]
    ids = lambda state: {t["task_id"]["value"] for t in state["get_tasks"]["tasks"]}
    assert "steady" in ids(state) and ids(state) == ids(before), "nobody has to wait for what was known"
    assert [a["agent_info"]["id"] for a in state["get_agents"]["agents"]] == [a["agent_info"]["id"] for a in before["get_agents"]["agents"]]
    known = [f for f in state["get_frameworks"]["frameworks"] if f["framework_info"]["name"] == "steady"]
    assert len(known) == 1 and not known[0]["connected"]
    s = Json(cluster.mesos, info("steady", id=s.id, failover_timeout=600))
    s.call({"type": "KILL", "kill": {"task_id": {"value": "steady"}}})
    s.wait("steady", "TASK_KILLED")
    told = []
    while ("TASK_UPDATED", "TASK_KILLED") not in told:
        event = stream.events.get(timeout=30)
        part = event.get(event["type"].lower(), {})
        told.append((event["type"], part.get("state")))
    assert ("FRAMEWORK_UPDATED", None) in told, told
    stream.close()
    s.stop()


def service(name, port=None):
    entry = {"port": 80, **({"nodePort": port} if port else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "selector": {"app": "none"}, "ports": [entry]}}


def test_a_port_is_a_tasks_or_a_services_and_never_both(cluster, scheduler, namespace):
    """Agents give [31000-32000], which lies within the range of node ports: frameworks have those ports all the same."""
    offer = scheduler.offer(lambda o: 31007 in ports(o) and 31009 in ports(o))
    assert len(ports(offer)) > 900, "the default ports are offered"
    holder = task("holder", offer, "sleep 600")
    holder["resources"].append(port_ranges(31007))
    scheduler.launch(offer, [holder])
    scheduler.wait("holder", "TASK_RUNNING")
    # What a task has no service gets, neither by asking for it nor by chance.
    with pytest.raises(AssertionError, match="provided port is already allocated"):
        cluster.apply(service("greedy", 31007), "-n", namespace)
    # What is only offered it gets: the offer is taken back, and the next one is without it.
    held = scheduler.offer(lambda o: 31009 in ports(o))
    cluster.apply(service("asking", 31009), "-n", namespace)
    scheduler.expect("RESCIND", where=lambda e: e["rescind"]["offer_id"] == held["id"])
    offer = scheduler.offer()
    assert 31009 not in ports(offer) and 31007 not in ports(offer)
    scheduler.call({"type": "DECLINE", "decline": {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}}})
    # One that asks for none in particular stays out of the frameworks' range.
    cluster.apply(service("any"), "-n", namespace)
    drawn = cluster.json("get", "service", "-n", namespace, "any")["spec"]["ports"][0]["nodePort"]
    assert 30000 <= drawn <= 32767 and not 31000 <= drawn <= 32000
    # A service that goes gives its port back.
    cluster.kubectl("delete", "service", "-n", namespace, "asking")

    def is_back():
        offer = scheduler.offer()
        scheduler.call({"type": "DECLINE", "decline": {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}}})
        return 31009 in ports(offer)

    until(is_back, what="an offer with the port")
    scheduler.call({"type": "KILL", "kill": {"task_id": {"value": "holder"}}})
    scheduler.wait("holder", "TASK_KILLED")
