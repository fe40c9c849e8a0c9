"""What clients of Mesos died of when a server was nearly, but not quite, what they had been written against: each a trap of its own."""

import http.client
import json
import re
import socket

import pytest
from plain import Json, ask, get, operator, scalar, task

from conftest import until


@pytest.fixture
def scheduler(cluster):
    s = Json(cluster.mesos, {"user": "root", "name": "traps", "failover_timeout": 60})
    yield s
    s.stop()


def raw(address, body, *headers):
    """A SUBSCRIBE by hand; the socket, and what came so far once the heads and the first record are there."""
    host, port = address.split(":")
    s = socket.create_connection((host, int(port)), timeout=30)
    head = ["POST /api/v1/scheduler HTTP/1.1", f"Host: {address}", "Content-Type: application/json", "Accept: application/json",
            f"Content-Length: {len(body)}", *headers]
    s.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())
    data = b""
    while data.count(b'"type"') < 2:
        more = s.recv(65536)
        assert more, data
        data += more
    return s, data.decode()


def test_a_version_is_three_numbers(cluster, scheduler):
    """pymesos, tfmesos and Marathon parse it as such, and end where it is not."""
    versions = [get(cluster.mesos, "/version")["version"], operator(cluster.mesos, "GET_VERSION")["version_info"]["version"],
                operator(cluster.mesos, "GET_MASTER")["master_info"]["version"]]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", v) for v in versions), versions


def test_a_stream_begins_with_subscribed_heartbeat_offers(cluster):
    """dpark takes the second event for a heartbeat."""
    s = Json(cluster.mesos, {"user": "root", "name": "order"})
    kinds = [s.stream.events.get(timeout=30)["type"] for _ in range(2)]
    assert kinds == ["HEARTBEAT", "OFFERS"], kinds
    s.stop()


def test_records_are_compact_ascii_without_line_ends_and_come_in_chunks_whatever_is_asked_for(cluster):
    """Clients count bytes as characters and read to the record's length, and pymesos reads chunks alone."""
    body = json.dumps({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "Zoë \u2028 \U0001f600"}}})
    s, data = raw(cluster.mesos, body, "Connection: close")
    head, _, rest = data.partition("\r\n\r\n")
    assert "transfer-encoding: chunked" in head.lower() and "content-length" not in head.lower(), head
    chunk, rest = rest.split("\r\n", 1)
    length, record = rest.split("\n", 1)
    record = record[: int(length)]
    assert int(chunk, 16) == len(length) + 1 + int(length), "a record is a chunk"
    assert record.isascii() and "\n" not in record and record == json.dumps(json.loads(record), separators=(",", ":")), record
    s.close()


def test_fields_that_nobody_knows_are_read_past_at_every_depth(cluster, scheduler):
    """Clients send what other versions had: credentials, slave ids, a whole status as an acknowledgement."""
    offer = scheduler.offer()
    odd = task("odd", offer, "true", slave_id={"value": "x"}, future={"a": [1]})
    odd["command"]["nobody"] = {"knows": True}
    odd["resources"][0]["scalar"]["unit"] = "core"
    scheduler.accept(offer, [{"type": "LAUNCH", "launch": {"task_infos": [odd], "more": 1}, "id2": 3}])
    seen = []
    while "TASK_FINISHED" not in seen:
        status = scheduler.expect("UPDATE")["update"]["status"]
        seen.append(status["state"])
        scheduler.call({"type": "ACKNOWLEDGE", "acknowledge": {**status, "slave_id": status["agent_id"]}, "credential": {}})
    assert seen[-1] == "TASK_FINISHED"


def test_calls_without_their_optional_parts_are_served(cluster, scheduler):
    """REVIVE and SUPPRESS without roles, KILL without an agent, DECLINE without filters."""
    offer = scheduler.offer()
    scheduler.call({"type": "DECLINE", "decline": {"offer_ids": [offer["id"]]}})
    scheduler.call({"type": "SUPPRESS"})
    scheduler.call({"type": "REVIVE"})
    offer = scheduler.offer()
    scheduler.launch(offer, [task("bare", offer, "sleep 600")])
    scheduler.wait("bare", "TASK_RUNNING")
    scheduler.call({"type": "RECONCILE", "reconcile": {"tasks": [{"task_id": {"value": "bare"}}]}})
    scheduler.expect("UPDATE", where=lambda e: e["update"]["status"].get("reason") == "REASON_RECONCILIATION")
    scheduler.call({"type": "KILL", "kill": {"task_id": {"value": "bare"}}})
    scheduler.wait("bare", "TASK_KILLED")


def test_the_failure_of_an_executor_has_a_status(cluster, scheduler):
    """pymesos reads it without asking whether it is there."""
    executor = {"type": "CUSTOM", "executor_id": {"value": "dies"}, "command": {"value": "exit 3"}, "resources": [scalar("cpus", 0.1)]}
    offer = scheduler.offer()
    entry = task("under", offer, "", executor=executor)
    del entry["command"]
    scheduler.launch(offer, [entry])
    failure = scheduler.expect("FAILURE")["failure"]
    assert failure["executor_id"]["value"] == "dies" and failure["status"] == 3 << 8, failure


def test_nothing_of_a_resource_and_very_long_refusals_are_taken(cluster, scheduler):
    """dpark and tfmesos ask for gpus: 0, and refuse for years."""
    offer = scheduler.offer()
    scheduler.launch(offer, [task("none", offer, "true", resources=[scalar("cpus", 0.1), scalar("mem", 32), scalar("gpus", 0)])],
                     refuse=2.0 ** 32)
    scheduler.wait("none", "TASK_FINISHED")


def test_a_leader_is_named_by_pid_and_by_address(cluster):
    """Some clients read the one, some the other; 5050 is a number, the address one in network order."""
    info = operator(cluster.mesos, "GET_MASTER")["master_info"]
    host, port = cluster.mesos.split(":")
    assert info["port"] == int(port) and info["address"]["port"] == int(port) and info["pid"].endswith(f":{port}")
    assert socket.inet_ntoa(int(info["ip"]).to_bytes(4, "little")) == info["address"]["ip"] == host
    assert ask(cluster.mesos, "GET", "/")[0] == 200
    status, headers, _ = ask(cluster.mesos, "GET", "/master/redirect")
    assert status == 307 and headers["Location"].startswith("//"), headers["Location"]


@pytest.mark.parametrize("path", ["/state", "/master/state", "/master/state/", "/master/state.json", "/state.json", "/master/slaves",
                                  "/slaves/", "/master/frameworks/", "/master/tasks.json", "/metrics/snapshot", "/master/roles"])
def test_old_spellings_of_a_path_are_known(cluster, path):
    """Mesos dropped some, and tools that still had them broke."""
    assert isinstance(get(cluster.mesos, path), dict)


def test_the_operators_other_path_is_the_same(cluster):
    """pymesos asks there."""
    status, _, body = ask(cluster.mesos, "POST", "/api/v1/operator", json.dumps({"type": "GET_VERSION"}), Content_Type="application/json")
    assert status == 200 and json.loads(body)["type"] == "GET_VERSION"


def test_an_executors_environment_is_spelled_as_libraries_read_it(cluster, scheduler):
    """Durations as `5secs`, whether checkpointing is on as 0 or 1."""
    executor = {"type": "CUSTOM", "executor_id": {"value": "env"}, "command": {"value": "env | sort; sleep 600"},
                "resources": [scalar("cpus", 0.1), scalar("mem", 32)]}
    offer = scheduler.offer()
    entry = task("env", offer, "", executor=executor)
    del entry["command"]
    scheduler.launch(offer, [entry])
    pod = until(lambda: cluster.json("get", "pods", "-A", "-l", "stoa.dev/executor-id=env")["items"], what="its pod")[0]
    read = lambda: dict(line.split("=", 1) for line in cluster.kubectl(
        "logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], check=False).splitlines() if "=" in line)
    env = until(lambda: read() if "MESOS_SLAVE_PID" in read() else None, what="its environment")
    assert env["MESOS_CHECKPOINT"] in ("0", "1") and re.fullmatch(r"[\d.]+secs", env["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"]), env
    assert re.fullmatch(r"slave\(1\)@[\d.]+:\d+", env["MESOS_SLAVE_PID"]) and env["MESOS_AGENT_ENDPOINT"] in env["MESOS_SLAVE_PID"]
    assert env["MESOS_FRAMEWORK_ID"] == scheduler.id["value"] and env["MESOS_EXECUTOR_ID"] == "env" and env["MESOS_DIRECTORY"]
    scheduler.call({"type": "SHUTDOWN", "shutdown": {"executor_id": {"value": "env"}, "agent_id": offer["agent_id"]}})
    scheduler.expect("FAILURE")


def test_an_offers_parts_are_there_though_they_are_empty(cluster, scheduler):
    """dpark and Spark read attributes, hostname, agent and scalars without asking."""
    offer = scheduler.offer()
    assert isinstance(offer["attributes"], list) and isinstance(offer["executor_ids"], list) and offer["hostname"]
    assert offer["id"]["value"] and offer["agent_id"]["value"] and offer["framework_id"] == scheduler.id
    for r in offer["resources"]:
        assert ("scalar" in r) if r["type"] == "SCALAR" else ("ranges" in r), r


def test_a_request_of_another_time_is_refused_in_words(cluster):
    """A call of an unknown type, on a stream that is none: a text, and the connection goes on."""
    connection = http.client.HTTPConnection(cluster.mesos, timeout=30)
    for body, words in [("{}", "Expecting 'type' to be present"), ('{"type":"REVIVE","framework_id":{"value":"x"}}', ""), ("[", "")]:
        connection.request("POST", "/api/v1/scheduler", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status in (400, 403) and words in text and text, (body, response.status, text)
    connection.close()
