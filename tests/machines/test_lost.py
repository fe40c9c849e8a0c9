"""Lesson 11: pods of machines that were lost lingered for ever, and frameworks waited for tasks that nobody ran."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "mesos_http"))
from conftest import until
from plain import Json, operator, task
from test_join import machines  # noqa: F401
from test_join import nodes


def test_what_a_lost_agent_ran_does_not_linger(machines):  # noqa: F811
    master, agents = machines
    agent = agents[0]
    agent.images()
    agent.join(master, "n0", master.stoa("token", "create").strip())
    until(lambda: "n0" in nodes(master), what="the node")
    master.kubectl("wait", "--for=condition=Ready", "node/n0", "--timeout=30s")
    master.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lost"}, "spec": {
        "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "600"]}]}})
    master.kubectl("wait", "--for=condition=Ready", "pod/lost", "--timeout=30s")
    capabilities = [{"type": "PARTITION_AWARE"}]
    s = Json(master.mesos, {"user": "root", "name": "lost", "failover_timeout": 60, "capabilities": capabilities})
    offer = s.offer()
    s.launch(offer, [task("lost", offer, "sleep 600")])
    s.wait("lost", "TASK_RUNNING")
    agent.kill9()
    listed = lambda: master.kubectl("get", "pods", "-A", "-o", "wide", "--no-headers")
    # It will not come back, and an operator says so: one word to one face, and both know.
    operator(master.mesos, "MARK_AGENT_GONE", agent_id={"value": "n0"})
    status = s.wait("lost", "TASK_GONE_BY_OPERATOR")
    assert status["agent_id"]["value"] == "n0"
    until(lambda: "n0" not in nodes(master), what="the node to be gone")
    until(lambda: not listed(), what="its pods to be gone")
    s.stop()
