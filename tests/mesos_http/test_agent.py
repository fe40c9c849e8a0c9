"""The agent's Mesos API as operators' tools reach it: at the address that `/slaves` announces, without the master."""

import base64
import json
import subprocess

import pytest
from plain import Json, ask, get, operator, scalar, task

from conftest import STOA, until

JSON = "application/json"


@pytest.fixture
def scheduler(cluster):
    s = Json(cluster.mesos, {"user": "root", "name": "agents", "failover_timeout": 60})
    yield s
    s.stop()


def announced(cluster):
    """Where a tool dials: what stands behind the `@` of an agent's pid."""
    slave = get(cluster.mesos, "/slaves")["slaves"][0]
    address = slave["pid"].split("@")[1]
    assert address.endswith(f":{slave['port']}")
    return address, slave["id"]


def test_an_agent_answers_where_slaves_say(cluster, scheduler):
    offer = scheduler.offer()
    address, agent = announced(cluster)
    url = offer["url"]["address"]
    assert f"{url['ip']}:{url['port']}" == address and offer["url"]["path"] == "/slave(1)"
    scheduler.launch(offer, [task("seen", offer, "echo out; sleep 600")])
    scheduler.wait("seen", "TASK_RUNNING")
    for path in ["/state", "/slave(1)/state", "/state.json", "/slave(1)/state.json", "/state/"]:
        state = get(address, path)
        assert state["id"] == agent and state["pid"].endswith(address)
    framework = next(f for f in state["frameworks"] if f["name"] == "agents")
    executor = next(e for e in framework["executors"] if e["id"] == "seen")
    assert executor["tasks"][0]["state"] == "TASK_RUNNING" and executor["tasks"][0]["resources"]["cpus"] == 0.1
    until(lambda: get(address, f"/files/read?path={executor['directory']}/stdout&offset=0")["data"] == "out\n",
          what="the task's output")
    listed = [c for c in get(address, "/containers") if c["executor_id"] == "seen"]
    assert listed[0]["container_id"] == executor["container"] and listed[0]["statistics"]["cpus_limit"] == 0.1
    usage = [c for c in get(address, "/monitor/statistics.json") if c["executor_id"] == "seen"]
    assert usage[0]["framework_id"] == scheduler.id["value"]
    assert get(address, "/metrics/snapshot")["slave/tasks_running"] >= 1
    assert get(address, "/version")["version"] == "1.11.0" and "flags" in get(address, "/flags")
    status, _, body = ask(address, "GET", "/state?jsonp=angular.callbacks._1")
    assert status == 200 and body.startswith("angular.callbacks._1({")
    assert ask(address, "GET", "/health")[0] == 200 and ask(address, "GET", "/nothing")[0] == 404


def test_the_agents_calls_say_what_runs_there(cluster, scheduler):
    offer = scheduler.offer()
    address, agent = announced(cluster)
    scheduler.launch(offer, [task("told", offer, "sleep 600")])
    scheduler.wait("told", "TASK_RUNNING")
    tasks = operator(address, "GET_TASKS")["launched_tasks"]
    told = next(t for t in tasks if t["task_id"]["value"] == "told")
    assert told["state"] == "TASK_RUNNING" and told["agent_id"]["value"] == agent
    assert scalar("cpus", 0.1).items() <= told["resources"][0].items()
    state = operator(address, "GET_STATE")
    assert any(t["task_id"]["value"] == "told" for t in state["get_tasks"]["launched_tasks"])
    frameworks = operator(address, "GET_FRAMEWORKS")["frameworks"]
    assert any(f["framework_info"]["name"] == "agents" for f in frameworks)
    executors = operator(address, "GET_EXECUTORS")["executors"]
    assert any(e["executor_info"]["executor_id"]["value"] == "told" for e in executors)
    info = operator(address, "GET_AGENT")["agent_info"]
    assert info["id"]["value"] == agent and info["port"] == int(address.rsplit(":", 1)[1])
    for call in ["GET_HEALTH", "GET_VERSION", "GET_FLAGS", "GET_METRICS", "GET_LOGGING_LEVEL", "GET_OPERATIONS",
                 "GET_RESOURCE_PROVIDERS", "GET_CONTAINERS"]:
        assert operator(address, call) is not None, call


@pytest.mark.parametrize("method, body, headers, status, words", [
    ("GET", None, {}, 405, "Expecting one of { 'POST' }, but received 'GET'"),
    ("POST", "{}", {}, 400, "Expecting 'Content-Type' to be present"),
    ("POST", "{}", {"Content_Type": "text/plain"}, 415, "Expecting 'Content-Type' of"),
    ("POST", "{}", {"Content_Type": JSON}, 400, "Failed to validate agent::Call: Expecting 'type' to be present"),
    ("POST", '{"type":"NEW"}', {"Content_Type": JSON}, 400, "Expecting 'type' to be present"),
    ("POST", "x", {"Content_Type": JSON}, 400, "Failed to parse body into JSON"),
    ("POST", '{"type":"READ_FILE"}', {"Content_Type": JSON}, 400, "Expecting 'read_file' to be present"),
    ("POST", '{"type":"GET_HEALTH"}', {"Content_Type": JSON, "Accept": "text/html"}, 406, "Expecting 'Accept' to allow"),
    ("POST", '{"type":"WAIT_CONTAINER","wait_container":{"container_id":{"value":"none"}}}', {"Content_Type": JSON},
     404, "Container none cannot be found"),
    ("POST", '{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"a"}}}',
     {"Content_Type": JSON}, 400, "container_id.parent' to be present"),
])
def test_what_is_wrong_is_told_in_mesos_words(cluster, method, body, headers, status, words):
    address, _ = announced(cluster)
    got, _, text = ask(address, method, "/api/v1", body, **headers)
    assert got == status and words in text, text


def test_a_nested_container_runs_beside_its_task(cluster, scheduler):
    offer = scheduler.offer()
    address, _ = announced(cluster)
    scheduler.launch(offer, [task("nest", offer, "sleep 600")])
    scheduler.wait("nest", "TASK_RUNNING")
    containers = operator(address, "GET_CONTAINERS")["containers"]
    parent = next(c["container_id"] for c in containers if c["executor_id"]["value"] == "nest")
    nested = {"value": "inner", "parent": parent}
    operator(address, "LAUNCH_NESTED_CONTAINER", container_id=nested, command={"value": "sleep 600"})
    status, _, _ = ask(address, "POST", "/api/v1", json.dumps({"type": "LAUNCH_NESTED_CONTAINER",
                       "launch_nested_container": {"container_id": nested, "command": {"value": "true"}}}), Content_Type=JSON)
    assert status == 202, "it is there already"
    listed = operator(address, "GET_CONTAINERS", show_nested=True)["containers"]
    assert nested in [c["container_id"] for c in listed]
    assert nested not in [c["container_id"] for c in operator(address, "GET_CONTAINERS")["containers"]]
    operator(address, "KILL_NESTED_CONTAINER", container_id=nested, signal=15)
    waited = operator(address, "WAIT_NESTED_CONTAINER", container_id=nested)
    assert waited["exit_status"] == 15, waited
    operator(address, "REMOVE_NESTED_CONTAINER", container_id=nested)
    assert ask(address, "POST", "/api/v1", json.dumps({"type": "WAIT_NESTED_CONTAINER",
               "wait_nested_container": {"container_id": nested}}), Content_Type=JSON)[0] == 404


def call(address, kind, **part):
    """An agent's call as it is answered: status and text."""
    status, _, text = ask(address, "POST", "/api/v1", json.dumps({"type": kind, kind.lower(): part}), Content_Type=JSON)
    return status, text


def standalone(cluster):
    """Pods of standalone containers, by name, with their phases."""
    pods = json.loads(cluster.kubectl("get", "pods", "-n", "kube-system", "-o", "json"))["items"]
    return {p["metadata"]["name"]: p["status"].get("phase") for p in pods if p["metadata"]["name"].startswith("standalone-")}


def test_an_operators_own_container_runs_until_it_is_removed(cluster):
    address, _ = announced(cluster)
    own = {"value": "Own.1"}
    command = {"value": "echo said; trap 'exit 3' TERM; while :; do sleep 0.1; done", "user": "nobody"}
    part = dict(container_id=own, command=command, resources=[scalar("cpus", 0.1), scalar("mem", 32)])
    assert call(address, "LAUNCH_CONTAINER", **part) == (200, "")
    assert call(address, "LAUNCH_CONTAINER", **part)[0] == 202, "it is there already"
    listed = [c for c in operator(address, "GET_CONTAINERS", show_standalone=True)["containers"] if c["container_id"] == own]
    assert len(listed) == 1 and "framework_id" not in listed[0]
    assert own not in [c["container_id"] for c in operator(address, "GET_CONTAINERS")["containers"]]
    assert not any(e["executor_info"]["executor_id"]["value"] == "Own.1" for e in operator(address, "GET_EXECUTORS")["executors"])
    # The other face sees it, and counts it.
    pods = until(lambda: {n: p for n, p in standalone(cluster).items() if p == "Running"}, what="its mirror")
    (name,) = pods
    until(lambda: cluster.kubectl("logs", "-n", "kube-system", name) == "said\n", what="its output")
    assert cluster.kubectl("exec", "-n", "kube-system", name, "--", "id", "-un") == "nobody\n"
    nested = {"value": "within", "parent": own}
    operator(address, "LAUNCH_CONTAINER", container_id=nested, command={"value": "exit 7"})
    assert operator(address, "WAIT_CONTAINER", container_id=nested)["exit_status"] == 7 << 8
    assert call(address, "REMOVE_CONTAINER", container_id=own)[0] == 400, "it runs still"
    assert call(address, "KILL_CONTAINER", container_id=own, signal=15)[0] == 200
    assert operator(address, "WAIT_CONTAINER", container_id=own)["exit_status"] == 3 << 8
    assert call(address, "REMOVE_CONTAINER", container_id=own)[0] == 200
    until(lambda: not standalone(cluster), what="the end of its mirror")
    assert call(address, "WAIT_CONTAINER", container_id=own) == (404, "Container Own.1 cannot be found")


@pytest.mark.parametrize("part, words", [
    ({}, "says nothing to run"),
    ({"command": {"value": "true", "user": "no-such-user"}}, "no-such-user"),
    ({"command": {"value": "true"}, "resources": [scalar("cpus", 10_000)]}, "cpu"),
    ({"command": {"value": "true"}, "resources": [scalar("cpus", -1)]}, "Invalid resources"),
    ({"command": {"value": "true"}, "container": {"type": "MESOS", "volumes": [
        {"mode": "RO", "container_path": "/x", "host_path": "/../x"}]}}, "is no valid host path"),
])
def test_an_operators_container_that_cannot_run_is_refused(cluster, part, words):
    address, _ = announced(cluster)
    status, text = call(address, "LAUNCH_CONTAINER", container_id={"value": "bad"}, **part)
    assert status == 400 and words in text, text
    assert call(address, "WAIT_CONTAINER", container_id={"value": "bad"})[0] == 404, "nothing is left of it"


def test_an_operators_container_outlives_its_agent(own_cluster):
    cluster = own_cluster
    address, _ = announced(cluster)
    own = {"value": "steady"}
    assert call(address, "LAUNCH_CONTAINER", container_id=own, command={"value": "echo $$ > pid; sleep 600"}) == (200, "")
    over = {"value": "over"}
    assert call(address, "LAUNCH_CONTAINER", container_id=over, command={"value": "exit 5"}) == (200, "")
    assert operator(address, "WAIT_CONTAINER", container_id=over)["exit_status"] == 5 << 8
    (name,) = until(lambda: [n for n, p in standalone(cluster).items() if p == "Running"], what="its mirror")
    # Until its agent is back there is no way to it.
    read_pid = lambda: cluster.kubectl(
        "exec", "-n", "kube-system", name, "--", "sh", "-c", "cat $MESOS_SANDBOX/pid", check=False)
    pid = until(read_pid, what="its own word")
    cluster.kill9()
    cluster.start()
    address, _ = announced(cluster)
    until(lambda: standalone(cluster).get(name) == "Running", what="the mirror after the restart")
    assert until(read_pid, what="its word after the restart") == pid, "it was not started again"
    assert call(address, "WAIT_CONTAINER", container_id=over)[0] == 200, "how it ended is known still"
    assert call(address, "KILL_CONTAINER", container_id=own)[0] == 200
    assert operator(address, "WAIT_CONTAINER", container_id=own)["exit_status"] == 9
    for one in [own, over]:
        assert call(address, "REMOVE_CONTAINER", container_id=one)[0] == 200
    until(lambda: not standalone(cluster), what="the end of the mirrors")


def test_a_louder_log_becomes_quiet_again(cluster):
    address, _ = announced(cluster)

    def levels():
        return [line.rsplit("level=", 1)[1] for line in cluster.log_tail(100_000).splitlines() if "the log's level is set" in line]

    before = len(levels())
    assert call(address, "SET_LOGGING_LEVEL", level=2, duration={"nanoseconds": 600_000_000}) == (200, "")
    until(lambda: levels()[before:] == ["2", "0"], what="both changes of the level")
    assert operator(address, "GET_LOGGING_LEVEL") == {"level": 0}
    status, _, body = ask(cluster.mesos, "POST", "/logging/toggle?level=1&duration=500ms")
    assert (status, body) == (200, "")
    until(lambda: levels()[before:] == ["2", "0", "1", "0"], what="both changes by the master")
    for query, words in [("level=1", "Expecting 'duration=value' in query."), ("duration=1secs", "Expecting 'level=value' in query."),
                         ("level=-1&duration=1secs", "Invalid level '-1'.")]:
        for at in [address, cluster.mesos]:
            status, _, body = ask(at, "POST", f"/logging/toggle?{query}")
            assert status == 400 and words in body, (query, body)


def basic(name, secret):
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def test_acls_judge_each_task_at_the_agents_door_and_through_the_master(own_cluster, tmp_path):
    """Alice may look into what runs as nobody, and into nothing else; whoever shows no credentials is let into nothing."""
    cluster = own_cluster
    cluster.stop()
    (tmp_path / "credentials").write_text("alice a\nroot r\n")
    users = [{"principals": {"values": ["root"]}, "users": {"type": "ANY"}},
             {"principals": {"values": ["alice"]}, "users": {"values": ["nobody"]}},
             {"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]
    everybody = [{"principals": {"type": "ANY"}, "users": {"type": "ANY"}}]
    lists = ["view_tasks", "view_executors", "access_sandboxes", "view_containers",
             "launch_nested_containers_as_user", "wait_nested_containers"]
    (tmp_path / "acls").write_text(json.dumps({"view_frameworks": everybody, **{name: users for name in lists}}))
    restart(cluster, "--mesos-credentials", tmp_path / "credentials", "--mesos-acls", tmp_path / "acls")
    root = {"Authorization": basic("root", "r")}
    s = Json(cluster.mesos, {"user": "root", "name": "two", "principal": "root", "failover_timeout": 60}, auth=root)
    offer = s.offer()
    mine, theirs = task("mine", offer, "sleep 600"), task("theirs", offer, "sleep 600")
    mine["command"]["user"] = "nobody"
    s.launch(offer, [mine, theirs])
    s.wait_all({"mine": "TASK_RUNNING", "theirs": "TASK_RUNNING"})
    status, _, body = ask(cluster.mesos, "GET", "/slaves", **root)
    address = json.loads(body)["slaves"][0]["pid"].split("@")[1]
    agent = json.loads(body)["slaves"][0]["id"]

    def seen(at, prefix, headers):
        status, _, body = ask(at, "GET", f"{prefix}/state", **headers)
        assert status == 200, body
        state = json.loads(body)
        return {e["id"]: e for f in state["frameworks"] for e in f["executors"]}

    alice = {"Authorization": basic("alice", "a")}
    everything = seen(address, "", root)
    assert set(everything) == {"mine", "theirs"}
    for at, prefix in [(address, ""), (cluster.mesos, f"/slave/{agent}")]:
        assert set(seen(at, prefix, alice)) == {"mine"}, at
        for name, want in [("mine", 200), ("theirs", 403)]:
            path = everything[name]["directory"]
            assert ask(at, "GET", f"{prefix}/files/browse?path={path}", **alice)[0] == want, (at, name)
            nested = {"container_id": {"value": f"n{prefix.count('/')}", "parent": {"value": everything[name]["container"]}},
                      "command": {"value": "true"}}
            call = json.dumps({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": nested})
            got = ask(at, "POST", f"{prefix}/api/v1", call, Content_Type=JSON, **alice)
            assert got[0] == want, (at, name, got)
        for headers in [{}, {"Authorization": basic("alice", "wrong")}]:
            status, answer, _ = ask(at, "GET", f"{prefix}/state", **headers)
            assert status == 401 and answer["WWW-Authenticate"].startswith("Basic realm=\"mesos-"), at
    s.stop()


def restart(cluster, *more):
    """The same cluster, closed to whoever shows no credentials."""
    command = [STOA, "up", "--data-dir", cluster.data_dir, "--api-port", cluster.api_port, "--mesos-port",
               cluster.mesos_port, "--agent-resources", cluster.resources, *more]
    with open(cluster.log_path, "ab") as log:
        cluster.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=log, text=True)
    assert cluster.process.stdout.readline().startswith("ready:"), cluster.log_tail()
    cluster.wait_node()
