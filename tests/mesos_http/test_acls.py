"""Every call that the ACLs are about, asked by three: one who may do everything, one who may do everything but this, and one who may
do nothing at all."""

import base64
import json

import pytest
from plain import Json, Stream, ask, scalar, task
from test_agent import restart

JSON = "application/json"

# What an action's objects are, by the name of its list.
ACTIONS = {
    "register_frameworks": "roles", "run_tasks": "users", "reserve_resources": "roles", "unreserve_resources": "reserver_principals",
    "create_volumes": "roles", "destroy_volumes": "creator_principals", "resize_volumes": "roles",
    "teardown_frameworks": "framework_principals", "update_weights": "roles", "get_endpoints": "paths", "get_quotas": "roles",
    "update_quotas": "roles", "view_frameworks": "users", "view_tasks": "users", "view_executors": "users", "access_sandboxes": "users",
    "access_mesos_logs": "logs", "view_roles": "roles", "view_flags": "flags", "launch_nested_containers_as_user": "users",
    "launch_nested_container_sessions_as_user": "users", "kill_nested_containers": "users", "wait_nested_containers": "users",
    "remove_nested_containers": "users", "attach_containers_input": "users", "attach_containers_output": "users",
    "view_containers": "users", "set_log_level": "level", "update_maintenance_schedules": "machines",
    "get_maintenance_schedules": "machines", "start_maintenances": "machines", "stop_maintenances": "machines",
    "get_maintenance_statuses": "machines", "drain_agents": "agents", "deactivate_agents": "agents", "reactivate_agents": "agents",
    "mark_agents_gone": "agents", "launch_standalone_containers": "users", "kill_standalone_containers": "users",
    "wait_standalone_containers": "users", "remove_standalone_containers": "users", "view_standalone_containers": "users",
    "prune_images": "images",
}


def header(principal):
    return {"Authorization": "Basic " + base64.b64encode(f"{principal}:s".encode()).decode()}


def send(address, principal, kind, part=None):
    call = {"type": kind} if part is None else {"type": kind, kind.lower(): part}
    status, _, body = ask(address, "POST", "/api/v1", json.dumps(call), Content_Type=JSON, **header(principal))
    return status, body


class Matrix:
    def __init__(self, cluster):
        self.master = cluster.mesos
        slave = json.loads(ask(self.master, "GET", "/slaves", **header("all"))[2])["slaves"][0]
        self.agent, self.id = slave["pid"].split("@")[1], slave["id"]
        self.seen = set()

    def refuses(self, action, kind, part, at=None):
        """A call that is done for who may, and for nobody else."""
        self.seen.add(action)
        at = at or self.master
        for principal in ["nothing", f"no-{action}"]:
            assert send(at, principal, kind, part)[0] == 403, (kind, principal)
        status, body = send(at, "all", kind, part)
        assert status in (200, 202), (kind, status, body)
        return json.loads(body).get(kind.lower()) if body else None

    def hides(self, action, kind, look, part=None, at=None):
        """A call of which each sees what they may."""
        self.seen.add(action)
        for principal, is_shown in [("nothing", False), (f"no-{action}", False), ("all", True)]:
            status, body = send(at or self.master, principal, kind, part)
            assert status == 200, (kind, principal, status, body)
            assert bool(look(json.loads(body)[kind.lower()])) == is_shown, (kind, principal, body)


@pytest.fixture
def matrix(own_cluster, tmp_path):
    cluster = own_cluster
    cluster.stop()
    principals = ["all", "nothing", *[f"no-{a}" for a in ACTIONS]]
    (tmp_path / "credentials").write_text("".join(f"{p} s\n" for p in principals))
    (tmp_path / "acls").write_text(json.dumps({
        action: [{"principals": {"values": ["nothing", f"no-{action}"]}, objects: {"type": "NONE"}},
                 {"principals": {"type": "ANY"}, objects: {"type": "ANY"}}]
        for action, objects in ACTIONS.items()}))
    restart(cluster, "--mesos-credentials", tmp_path / "credentials", "--mesos-acls", tmp_path / "acls")
    return Matrix(cluster)


def reserved(name, amount, principal="all", **more):
    return {**scalar(name, amount), "reservations": [{"type": "DYNAMIC", "role": "m", "principal": principal}], **more}


def test_every_call_is_done_for_who_may_and_for_nobody_else(matrix):
    m = matrix
    agent = {"value": m.id}
    info = {"user": "nobody", "name": "judged", "principal": "all", "failover_timeout": 60}
    # Frameworks: who registers, and as whom tasks run.
    for principal in ["nothing", "no-register_frameworks"]:
        assert "Not authorized to use role" in why_refused(m.master, principal)
    m.seen.add("register_frameworks")
    s = Json(m.master, info, auth=header("all"))
    offer = s.offer()
    runner = Json(m.master, {**info, "name": "no", "principal": "no-run_tasks"}, auth=header("no-run_tasks"))
    s.launch(offer, [task("t", offer, "echo out; sleep 600")])
    s.wait("t", "TASK_RUNNING")
    other = runner.offer()
    runner.launch(other, [task("u", other, "true")])
    assert runner.wait("u", "TASK_ERROR")["reason"] == "REASON_TASK_UNAUTHORIZED"
    m.seen.add("run_tasks")
    # The master's read-outs.
    for action, kind, look in [
        ("view_frameworks", "GET_FRAMEWORKS", lambda r: [f for f in r["frameworks"] if f["framework_info"]["name"] == "judged"]),
        ("view_tasks", "GET_TASKS", lambda r: [t for t in r["tasks"] if t["task_id"]["value"] == "t"]),
        ("view_roles", "GET_ROLES", lambda r: r["roles"]),
        ("view_flags", "GET_FLAGS", lambda r: r["flags"]),
    ]:
        m.hides(action, kind, look)
    # Resources and volumes: each refused before it is done.
    m.refuses("update_weights", "UPDATE_WEIGHTS", {"weight_infos": [{"role": "m", "weight": 2}]})
    quota = {"force": True, "quota_configs": [{"role": "m", "limits": {"disk": {"value": 1_000_000}}}]}
    m.refuses("update_quotas", "UPDATE_QUOTA", quota)
    m.hides("get_quotas", "GET_QUOTA", lambda r: r["status"].get("configs") or r["status"].get("infos"))
    room = [reserved("disk", 64)]
    m.refuses("reserve_resources", "RESERVE_RESOURCES", {"agent_id": agent, "resources": room})
    disk = {"persistence": {"id": "v", "principal": "all"}, "volume": {"mode": "RW", "container_path": "v"}}
    volume = reserved("disk", 32, disk=disk)
    m.refuses("create_volumes", "CREATE_VOLUMES", {"agent_id": agent, "volumes": [volume]})
    m.refuses("resize_volumes", "GROW_VOLUME", {"agent_id": agent, "volume": volume, "addition": reserved("disk", 16)})
    grown = reserved("disk", 48, disk=disk)
    m.refuses("resize_volumes", "SHRINK_VOLUME", {"agent_id": agent, "volume": grown, "subtract": {"value": 16}})
    m.refuses("destroy_volumes", "DESTROY_VOLUMES", {"agent_id": agent, "volumes": [volume]})
    m.refuses("unreserve_resources", "UNRESERVE_RESOURCES", {"agent_id": agent, "resources": room})
    # Files and logs, on both; containers on the agent, at its own door and through the master.
    m.refuses("set_log_level", "SET_LOGGING_LEVEL", {"level": 0, "duration": {"nanoseconds": 1_000_000}})
    m.refuses("set_log_level", "SET_LOGGING_LEVEL", {"level": 0, "duration": {"nanoseconds": 1_000_000}}, at=m.agent)
    m.refuses("access_mesos_logs", "READ_FILE", {"path": "/master/log", "offset": 0})
    m.refuses("prune_images", "PRUNE_IMAGES", {}, at=m.agent)
    for action, kind, look in [
        ("view_frameworks", "GET_FRAMEWORKS", lambda r: r["frameworks"]),
        ("view_tasks", "GET_TASKS", lambda r: r["launched_tasks"]),
        ("view_executors", "GET_EXECUTORS", lambda r: r["executors"]),
        ("view_flags", "GET_FLAGS", lambda r: r["flags"]),
        ("view_containers", "GET_CONTAINERS", lambda r: r["containers"]),
    ]:
        m.hides(action, kind, look, at=m.agent)
    containers = json.loads(send(m.agent, "all", "GET_CONTAINERS")[1])["get_containers"]["containers"]
    parent = next(c["container_id"] for c in containers if c["executor_id"]["value"] == "t")
    state = json.loads(ask(m.agent, "GET", "/state", **header("all"))[2])
    sandbox = next(e["directory"] for f in state["frameworks"] for e in f["executors"] if e["id"] == "t")
    m.refuses("access_sandboxes", "LIST_FILES", {"path": sandbox}, at=m.agent)
    m.refuses("access_sandboxes", "READ_FILE", {"path": f"{sandbox}/stdout", "offset": 0}, at=m.agent)
    nested = {"value": "n", "parent": parent}
    on_nested = {"container_id": nested}
    launch = {"container_id": nested, "command": {"value": "sleep 600"}}
    m.refuses("launch_nested_containers_as_user", "LAUNCH_NESTED_CONTAINER", launch, at=m.agent)
    m.refuses("kill_nested_containers", "KILL_NESTED_CONTAINER", on_nested, at=m.agent)
    m.refuses("wait_nested_containers", "WAIT_NESTED_CONTAINER", on_nested, at=m.agent)
    m.refuses("remove_nested_containers", "REMOVE_NESTED_CONTAINER", on_nested, at=m.agent)
    for action, kind, part in [
        ("launch_nested_container_sessions_as_user", "LAUNCH_NESTED_CONTAINER_SESSION", {**launch, "command": {"value": "true"}}),
        ("attach_containers_output", "ATTACH_CONTAINER_OUTPUT", {"container_id": parent}),
    ]:
        # What is a stream is only asked for by those who get none.
        m.seen.add(action)
        for principal in ["nothing", f"no-{action}"]:
            assert send(m.agent, principal, kind, part)[0] == 403, (kind, principal)
    m.seen.add("attach_containers_input")
    first = json.dumps({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {"type": "CONTAINER_ID", "container_id": nested}})
    for principal, want in [("nothing", 403), ("no-attach_containers_input", 403), ("all", 404)]:
        got = ask(m.agent, "POST", "/api/v1", f"{len(first)}\n{first}", Content_Type="application/recordio",
                  Message_Content_Type=JSON, **header(principal))
        assert got[0] == want, (principal, got)
    own = {"container_id": {"value": "own"}}
    launch = {**own, "command": {"value": "sleep 600", "user": "nobody"}}
    m.refuses("launch_standalone_containers", "LAUNCH_CONTAINER", launch, at=m.agent)
    m.hides("view_standalone_containers", "GET_CONTAINERS",
            lambda r: [c for c in r["containers"] if c["container_id"]["value"] == "own"], {"show_standalone": True}, at=m.agent)
    m.refuses("kill_standalone_containers", "KILL_CONTAINER", own, at=m.agent)
    m.refuses("wait_standalone_containers", "WAIT_CONTAINER", own, at=m.agent)
    m.refuses("remove_standalone_containers", "REMOVE_CONTAINER", own, at=m.agent)
    m.seen.add("get_endpoints")
    for at in [m.master, m.agent]:
        for principal, want in [("nothing", 403), ("no-get_endpoints", 403), ("all", 200)]:
            assert ask(at, "GET", "/metrics/snapshot", **header(principal))[0] == want, (at, principal)
    # Machines, the gravest last.
    machine = {"hostname": "elsewhere"}
    window = {"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 1}}}
    m.refuses("update_maintenance_schedules", "UPDATE_MAINTENANCE_SCHEDULE", {"schedule": {"windows": [window]}})
    m.hides("get_maintenance_schedules", "GET_MAINTENANCE_SCHEDULE", lambda r: r["schedule"].get("windows"))
    m.hides("get_maintenance_statuses", "GET_MAINTENANCE_STATUS", lambda r: r["status"].get("draining_machines"))
    m.refuses("start_maintenances", "START_MAINTENANCE", {"machines": [machine]})
    m.refuses("stop_maintenances", "STOP_MAINTENANCE", {"machines": [machine]})
    m.refuses("deactivate_agents", "DEACTIVATE_AGENT", {"agent_id": agent})
    m.refuses("reactivate_agents", "REACTIVATE_AGENT", {"agent_id": agent})
    m.refuses("teardown_frameworks", "TEARDOWN", {"framework_id": s.id})
    m.refuses("drain_agents", "DRAIN_AGENT", {"agent_id": agent})
    m.refuses("mark_agents_gone", "MARK_AGENT_GONE", {"agent_id": agent})
    assert set(ACTIONS) == m.seen, "every action was asked for"
    s.stream.close()
    runner.stream.close()


def why_refused(address, principal):
    """Registers where that is refused: what the stream says."""
    call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "nobody", "name": "r", "principal": principal}}}
    stream = Stream(address, "/api/v1/scheduler", json.dumps(call), JSON, json.loads, header(principal))
    event = stream.events.get(timeout=30)
    stream.close()
    assert event["type"] == "ERROR", event
    return event["error"]["message"]
