"""A task's sandbox: what is fetched into it, what the task writes there, and how people read it through the master."""

import base64
import http.client
import http.server
import io
import json
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest
from addict import Dict
from framework import Framework

from conftest import until


@pytest.fixture
def framework(cluster, request):
    f = Framework(cluster.mesos, name=request.node.name[:40])
    f.registered()
    yield f
    f.stop()


@pytest.fixture
def site():
    """A web server that counts."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        info = tarfile.TarInfo("inside/hello.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    files = {"/bundle.tgz": packed.getvalue(), "/tool": b"#!/bin/sh\necho tool runs as $(id -u)\n"}
    hits = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            body = files.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", hits
    server.shutdown()


def command_task(offer, task_id, command, **more):
    task = Dict(name=task_id, agent_id=offer["agent_id"])
    task.task_id.value = task_id
    task.command = Dict(value=command, shell=True, **more)
    task.resources = [Dict(name="cpus", type="SCALAR", scalar=Dict(value=0.1)),
                      Dict(name="mem", type="SCALAR", scalar=Dict(value=32))]
    return task


def agent_get(cluster, agent, endpoint, **query):
    url = f"http://{cluster.mesos}/slave/{agent}{endpoint}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def agent_json(cluster, agent, endpoint, **query):
    return json.loads(agent_get(cluster, agent, endpoint, **query))


def directory_of(cluster, agent, executor):
    state = agent_json(cluster, agent, "/state")
    frameworks = state["frameworks"] + state["completed_frameworks"]
    executors = [e for f in frameworks for e in f["executors"] + f["completed_executors"]]
    return next(e["directory"] for e in executors if e["id"] == executor)


def test_uris_are_fetched_unpacked_and_cached(cluster, framework, site):
    address, hits = site
    uris = [{"value": f"{address}/bundle.tgz", "cache": True}, {"value": f"{address}/tool", "executable": True}]
    for n in range(2):
        offer = framework.offer()
        task = command_task(offer, f"fetch-{n}", "cat inside/hello.txt && ./tool && test -f bundle.tgz", uris=uris)
        framework.driver.launchTasks(offer["id"], [task])
        framework.wait_states({f"fetch-{n}": "TASK_FINISHED"})
    assert hits.count("/bundle.tgz") == 1 and hits.count("/tool") == 2, hits


def test_a_uri_that_cannot_be_had_fails_the_task(cluster, framework, site):
    offer = framework.offer()
    task = command_task(offer, "broken", "true", uris=[{"value": f"{site[0]}/none"}])
    framework.driver.launchTasks(offer["id"], [task])
    update = framework.wait_states({"broken": "TASK_FAILED"})[-1][2]
    assert update["reason"] == "REASON_CONTAINER_LAUNCH_FAILED" and "404" in update["message"], update


def test_a_sandbox_is_browsed_and_read_through_the_master(cluster, framework):
    offer = framework.offer()
    agent = offer["agent_id"]["value"]
    command = "echo to stdout; echo to stderr >&2; echo made > file; ln -s /etc/shadow leak; sleep 600"
    framework.driver.launchTasks(offer["id"], [command_task(offer, "writer", command)])
    framework.wait_states({"writer": "TASK_RUNNING"})
    sandbox = directory_of(cluster, agent, "writer")

    def names():
        return {e["path"].rsplit("/", 1)[1]: e for e in agent_json(cluster, agent, "/files/browse", path=sandbox)}

    until(lambda: {"stdout", "stderr", "file", "leak"} <= names().keys(), what="the task's files")
    assert names()["file"]["mode"] == "-rw-r--r--" and names()["file"]["size"] == 5

    def read(name, **query):
        return agent_json(cluster, agent, "/files/read", path=f"{sandbox}/{name}", **query)

    until(lambda: read("stdout", offset=0)["data"] == "to stdout\n", what="the task's output")
    assert read("stderr", offset=3, length=6) == {"data": "stderr", "offset": 3}
    assert read("file") == {"data": "", "offset": 5}
    assert agent_get(cluster, agent, "/files/download", path=f"{sandbox}/file") == b"made\n"
    latest = f"/frameworks/{framework.scheduler.framework_id}/executors/writer/runs/latest/file"
    assert agent_json(cluster, agent, "/slave(1)/files/read", path=latest, offset=0)["data"] == "made\n"
    # Nothing leads out of it.
    for path in [f"{sandbox}/leak", f"{sandbox}/../../../../pki/ca.key", "/etc/hosts"]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            agent_json(cluster, agent, "/files/read", path=path, offset=0)
        assert refused.value.code == 404, path
    framework.driver.killTask({"value": "writer"})
    framework.wait_states({"writer": "TASK_KILLED"})


def test_a_task_group_is_one_pod_and_dies_together(cluster, framework):
    offer = framework.offer()
    executor = {"type": "DEFAULT", "executor_id": {"value": "pair"}}
    tasks = [command_task(offer, "left", "echo from the left; sleep 600"), command_task(offer, "right", "sleep 600")]
    framework.driver.acceptOffers(offer["id"], [{
        "type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}}])
    framework.wait_states({"left": "TASK_RUNNING", "right": "TASK_RUNNING"})
    pods = [p for p in cluster.json("get", "pods", "-n", "mesos")["items"]
            if p["metadata"]["annotations"].get("stoa.dev/executor-id") == "pair"]
    assert [c["name"] for c in pods[0]["spec"]["containers"]] == ["left", "right"] and len(pods) == 1
    until(lambda: cluster.kubectl("logs", "-n", "mesos", pods[0]["metadata"]["name"], "-c", "left") == "from the left\n", what="its word")
    framework.driver.killTask({"value": "left"})
    framework.wait_states({"left": "TASK_KILLED", "right": "TASK_KILLED"})


def test_a_task_with_an_image_finds_its_sandbox(cluster, framework):
    offer = framework.offer()
    task = command_task(offer, "boxed", "pwd; echo in $MESOS_SANDBOX > note; test -e /etc/apt && exit 1; cat note")
    task.container = Dict(type="MESOS")
    task.container.mesos.image = Dict(type="DOCKER", docker=Dict(name="busybox"))
    framework.driver.launchTasks(offer["id"], [task])
    framework.wait_states({"boxed": "TASK_FINISHED"})
    agent = offer["agent_id"]["value"]
    sandbox = directory_of(cluster, agent, "boxed")
    out = agent_json(cluster, agent, "/files/read", path=f"{sandbox}/stdout", offset=0)["data"]
    assert out == "/mnt/mesos/sandbox\nin /mnt/mesos/sandbox\n"


def records(*values):
    texts = [json.dumps(v).encode() for v in values]
    return b"".join(b"%d\n%s" % (len(t), t) for t in texts)


def read_records(stream):
    while length := stream.readline():
        yield json.loads(stream.read(int(length)))


def call(cluster, agent, body, **headers):
    conn = http.client.HTTPConnection(*cluster.mesos.split(":"), timeout=20)
    data = body if isinstance(body, bytes) else json.dumps(body)
    conn.request("POST", f"/slave/{agent}/api/v1", body=data, headers={"Content-Type": "application/json", **headers})
    return conn.getresponse()


def test_an_operator_debugs_a_running_task_through_the_master(cluster, framework):
    offer = framework.offer()
    agent = offer["agent_id"]["value"]
    framework.driver.launchTasks(offer["id"], [command_task(offer, "patient", "sleep 600")])
    framework.wait_states({"patient": "TASK_RUNNING"})
    found = json.load(call(cluster, agent, {"type": "GET_CONTAINERS"}))["get_containers"]["containers"]
    parent = next(c["container_id"] for c in found if c["executor_id"]["value"] == "patient")
    nested = {"value": "probe", "parent": parent}
    script = "read line; echo got $line; echo oops >&2; exit 3"
    session = call(cluster, agent, {"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": {
        "container_id": nested, "command": {"value": script}}},
        **{"Accept": "application/recordio", "Message-Accept": "application/json"})
    assert session.status == 200 and session.headers["Message-Content-Type"] == "application/json"
    io = lambda data: {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {"type": "PROCESS_IO", "process_io": {
        "type": "DATA", "data": {"type": "STDIN", "data": base64.b64encode(data).decode()}}}}
    first = {"type": "ATTACH_CONTAINER_INPUT",
             "attach_container_input": {"type": "CONTAINER_ID", "container_id": nested}}
    sent = call(cluster, agent, records(first, io(b"hello\n"), io(b"")),
                **{"Content-Type": "application/recordio", "Message-Content-Type": "application/json"})
    assert sent.status == 200, sent.read()
    said = {"STDOUT": b"", "STDERR": b""}
    for record in read_records(session):
        if record["type"] == "DATA":
            said[record["data"]["type"]] += base64.b64decode(record["data"]["data"])
    assert said == {"STDOUT": b"got hello\n", "STDERR": b"oops\n"}
    waited = json.load(call(cluster, agent, {"type": "WAIT_NESTED_CONTAINER",
                                             "wait_nested_container": {"container_id": nested}}))
    assert waited["wait_nested_container"]["exit_status"] == 3 << 8
    framework.driver.killTask({"value": "patient"})
    framework.wait_states({"patient": "TASK_KILLED"})
