"""A custom executor, unmodified pymesos on both ends: many tasks in one pod, messages both ways, deaths on either side."""

import json
import os
import pathlib
import queue
import signal
import subprocess
import sys

import pytest
from addict import Dict
from framework import Framework, Recorder
from pymesos import decode_data, encode_data

from conftest import until

HERE = pathlib.Path(__file__).resolve().parent


# Says something to an agent, and prints the answer's status.
SPEAK = """
import json, sys, urllib.request as u
request = u.Request(sys.argv[1], sys.argv[2].encode(), {'Content-Type': 'application/json', **json.loads(sys.argv[3])})
try:
    print(u.urlopen(request).status)
except u.HTTPError as e:
    print(e.code)
"""


class Listener(Recorder):
    def __init__(self):
        super().__init__()
        self.messages, self.losses = queue.Queue(), queue.Queue()

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        self.messages.put((executor_id["value"], decode_data(message)))

    def executorLost(self, driver, executor_id, agent_id, status):
        self.losses.put((executor_id["value"], status))


class Executors(Framework):
    recorder = Listener

    network = None

    def executor(self, name="echo"):
        info = Dict(name=name)
        info.executor_id.value = name
        info.command.value = f"exec {sys.executable} {HERE / 'echo_executor.py'}"
        if self.network:
            info.container = Dict(type="MESOS", network_infos=[Dict(name=self.network)])
        info.resources = [
            Dict(name="cpus", type="SCALAR", scalar=Dict(value=0.1)),
            Dict(name="mem", type="SCALAR", scalar=Dict(value=32)),
        ]
        return info

    def start(self, offer, tasks, executor="echo"):
        """tasks: {id: data}"""
        infos = []
        for task_id, data in tasks.items():
            task = Dict(name=task_id, agent_id=offer["agent_id"], executor=self.executor(executor))
            task.task_id.value = task_id
            task.data = encode_data(data.encode())
            task.resources = [
                Dict(name="cpus", type="SCALAR", scalar=Dict(value=0.05)),
                Dict(name="mem", type="SCALAR", scalar=Dict(value=8)),
            ]
            infos.append(task)
        self.driver.launchTasks(offer["id"], infos)


@pytest.fixture
def framework(cluster, request):
    f = Executors(cluster.mesos, name=request.node.name[:40], checkpoint=True)
    f.registered()
    yield f
    f.stop()


def pods_of(cluster, framework):
    found = cluster.json("get", "pods", "-n", "mesos")["items"]
    mine = framework.scheduler.framework_id
    return [p for p in found if p["metadata"]["annotations"].get("stoa.dev/framework-id") == mine]


def test_an_executor_with_a_network_of_its_own_finds_its_agent(own_cluster):
    cluster = own_cluster
    framework = Executors(cluster.mesos, name="apart", checkpoint=True)
    framework.registered()
    framework.network = "pods"
    framework.start(framework.offer(), {"n1": "one", "n2": "hold"})
    seen = framework.wait_states({"n1": "TASK_FINISHED", "n2": "TASK_RUNNING"})
    assert [decode_data(u["data"]) for t, s, u in seen if (t, s) == ("n1", "TASK_FINISHED")] == [b"ONE"]
    (pod,) = pods_of(cluster, framework)
    assert not pod["spec"].get("hostNetwork") and pod["status"]["podIP"] != pod["status"]["hostIP"]
    # Nobody else of the pods' network may speak for it.
    name, mine = pod["metadata"]["name"], framework.scheduler.framework_id
    env = dict(line.split("=", 1) for line in cluster.kubectl(
        "exec", "-n", "mesos", name, "--", "sh", "-c", "env; ip -4 -o addr show eth0 | sed 's/^/IP=/'"
    ).splitlines() if "=" in line)
    assert pod["status"]["podIP"] in env["IP"] and env["LIBPROCESS_IP"] == pod["status"]["podIP"]
    assert env["MESOS_AGENT_ENDPOINT"].split(":")[0] not in ("127.0.0.1", pod["status"]["podIP"])
    call = json.dumps({"type": "MESSAGE", "framework_id": {"value": mine}, "executor_id": {"value": "echo"}, "message": {"data": "eA=="}})
    url = f"http://{env['MESOS_AGENT_ENDPOINT']}/api/v1/executor"
    own, token = {}, {"Authorization": "Bearer " + env["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"]}
    wrong = {"Authorization": "Bearer x"}

    def status(headers, inside):
        command = [sys.executable, "-c", SPEAK, url, call, json.dumps(headers)]
        if inside:
            return cluster.kubectl("exec", "-n", "mesos", name, "--", *command).strip()
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    assert [status(h, True) for h in (own, token, wrong)] == ["202", "202", "401"]
    assert [status(h, False) for h in (own, token, wrong)] == ["", "", ""], "whoever is in no executor's pod is not listened to"
    # A restarted agent is found where the one before was.
    cluster.kill9()
    cluster.start()
    framework.registered(seconds=60)
    framework.driver.killTask({"value": "n2"})
    framework.wait_states({"n2": "TASK_KILLED"}, seconds=90)
    framework.stop()


def test_many_tasks_share_one_executor_and_its_pod(cluster, framework):
    first = framework.offer()
    framework.start(first, {"a1": "one", "a2": "two", "h1": "hold"})
    seen = framework.wait_states({"a1": "TASK_FINISHED", "a2": "TASK_FINISHED", "h1": "TASK_RUNNING"})
    data = {t: decode_data(u["data"]) for t, s, u in seen if s == "TASK_FINISHED"}
    assert data == {"a1": b"ONE", "a2": b"TWO"}
    assert all(u["executor_id"]["value"] == "echo" for _, _, u in seen)
    # A later offer names the executor, and its tasks go to the one that runs.
    second = framework.offer()
    assert {"value": "echo"} in second["executor_ids"]
    framework.start(second, {"a3": "three"})
    framework.wait_states({"a3": "TASK_FINISHED"})
    pods = pods_of(cluster, framework)
    assert len(pods) == 1 and pods[0]["status"]["phase"] == "Running", pods
    until(lambda: "registered echo" in cluster.kubectl("logs", "-n", "mesos", pods[0]["metadata"]["name"]), what="the executor's word")
    framework.driver.killTask({"value": "h1"})
    framework.wait_states({"h1": "TASK_KILLED"})


def test_messages_go_both_ways(cluster, framework):
    offer = framework.offer()
    framework.start(offer, {"holder": "hold"})
    framework.wait_states({"holder": "TASK_RUNNING"})
    framework.driver.sendFrameworkMessage({"value": "echo"}, offer["agent_id"], encode_data(b"hello"))
    assert framework.scheduler.messages.get(timeout=20) == ("echo", b"echo:hello")


def test_an_executor_that_dies_takes_its_tasks_along(cluster, framework):
    framework.start(framework.offer(), {"victim": "hold"})
    framework.wait_states({"victim": "TASK_RUNNING"})
    framework.start(framework.offer(), {"killer": "die"})
    seen = framework.wait_states({"victim": "TASK_FAILED", "killer": "TASK_FAILED"})
    assert all(u["reason"] == "REASON_EXECUTOR_TERMINATED" for _, s, u in seen if s == "TASK_FAILED")
    assert framework.scheduler.losses.get(timeout=20) == ("echo", 7 << 8)
    # The same executor id starts afresh.
    framework.start(framework.offer(), {"next": "again"})
    framework.wait_states({"next": "TASK_FINISHED"})


def test_another_executor_of_the_same_id_is_refused(cluster, framework):
    framework.start(framework.offer(), {"good": "hold"})
    framework.wait_states({"good": "TASK_RUNNING"})
    offer = framework.offer()
    task = Dict(name="bad", agent_id=offer["agent_id"], executor=framework.executor())
    task.task_id.value = "bad"
    task.executor.command.value += " --other"
    task.resources = [Dict(name="cpus", type="SCALAR", scalar=Dict(value=0.05))]
    framework.driver.launchTasks(offer["id"], [task])
    seen = framework.wait_states({"bad": "TASK_ERROR"})
    assert "ExecutorInfo is not compatible with existing ExecutorInfo" in seen[-1][2]["message"]


def test_deleting_the_executors_pod_kills_its_tasks(cluster, framework):
    framework.start(framework.offer(), {"doomed": "hold"})
    framework.wait_states({"doomed": "TASK_RUNNING"})
    pod = pods_of(cluster, framework)[0]["metadata"]["name"]
    cluster.kubectl("delete", "pod", "-n", "mesos", pod, "--wait=false")
    framework.wait_states({"doomed": "TASK_KILLED"})


def test_an_executor_outlives_the_agent_and_its_updates_are_not_lost(own_cluster):
    """kill -9 of everything: the executor reconnects, and what it says then arrives."""
    cluster = own_cluster
    framework = Executors(cluster.mesos, name="survivor", checkpoint=True)
    framework.registered()
    framework.start(framework.offer(), {"keeper": "hold"})
    framework.wait_states({"keeper": "TASK_RUNNING"})
    pid = pods_of(cluster, framework)[0]["status"]["containerStatuses"][0]["containerID"]
    cluster.kill9()
    cluster.start().wait_node()
    framework.registered(seconds=60)
    framework.driver.killTask({"value": "keeper"})
    framework.wait_states({"keeper": "TASK_KILLED"}, seconds=90)
    assert pods_of(cluster, framework)[0]["status"]["containerStatuses"][0]["containerID"] == pid
    framework.start(framework.offer(seconds=60), {"later": "still here"})
    framework.wait_states({"later": "TASK_FINISHED"}, seconds=60)
    framework.stop()
