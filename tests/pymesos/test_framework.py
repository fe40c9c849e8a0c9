"""An unmodified pymesos framework launches, kills, reconciles and fails over beside the pods of kubectl."""

import json
import queue
import urllib.request

import pytest
from framework import Framework

from conftest import until


@pytest.fixture
def framework(cluster):
    f = Framework(cluster.mesos)
    f.registered()
    yield f
    f.stop()


def state(cluster):
    return json.load(urllib.request.urlopen(f"http://{cluster.mesos}/master/state", timeout=5))


def mesos_pods(cluster, namespace="mesos"):
    return cluster.json("get", "pods", "-n", namespace)["items"]


def test_tasks_run_as_pods_and_finish(cluster, framework):
    framework.launch(framework.offer(), {"t1": "echo from $MESOS_SANDBOX; sleep 2", "t2": "exit 3"})
    seen = framework.wait_states({"t1": "TASK_FINISHED", "t2": "TASK_FAILED"})
    states = [s for t, s, _ in seen if t == "t1"]
    assert states.index("TASK_RUNNING") < states.index("TASK_FINISHED"), states
    failed = next(u for t, s, u in seen if s == "TASK_FAILED")
    assert failed["message"] == "Command exited with status 3"


def test_a_running_task_is_a_pod_with_logs_and_can_be_killed(cluster, framework):
    framework.launch(framework.offer(), {"sleeper": "echo awake; sleep 600"})
    framework.wait_states({"sleeper": "TASK_RUNNING"})
    pod = next(p for p in mesos_pods(cluster) if p["metadata"]["annotations"].get("stoa.dev/task-id") == "sleeper"
               or p["metadata"]["labels"].get("stoa.dev/task-id") == "sleeper")
    name = pod["metadata"]["name"]
    assert "Running" in cluster.kubectl("get", "pods", "-A")
    until(lambda: cluster.kubectl("logs", "-n", "mesos", name) == "awake\n", what="the task's output")
    tasks = [t for f in state(cluster)["frameworks"] for t in f["tasks"]]
    assert any(t["id"] == "sleeper" and t["state"] == "TASK_RUNNING" for t in tasks), tasks
    framework.driver.killTask({"value": "sleeper"})
    framework.wait_states({"sleeper": "TASK_KILLED"})
    until(lambda: name not in [p["metadata"]["name"] for p in mesos_pods(cluster)], what="the killed task's pod to go")


def test_deleting_a_tasks_pod_kills_the_task(cluster, framework):
    framework.launch(framework.offer(), {"doomed": "sleep 600"})
    framework.wait_states({"doomed": "TASK_RUNNING"})
    pod = next(p for p in mesos_pods(cluster) if "doomed" in p["metadata"]["name"])
    cluster.kubectl("delete", "pod", "-n", "mesos", pod["metadata"]["name"], "--wait=false")
    framework.wait_states({"doomed": "TASK_KILLED"})


def test_reconciliation_answers_for_known_and_unknown_tasks(cluster, framework):
    framework.launch(framework.offer(), {"known": "sleep 600"})
    framework.wait_states({"known": "TASK_RUNNING"})
    framework.driver.reconcileTasks([{"task_id": {"value": "known"}}, {"task_id": {"value": "never-was"}}])
    seen = framework.wait_states({"known": "TASK_RUNNING", "never-was": "TASK_LOST"})
    assert all(u["reason"] == "REASON_RECONCILIATION" for _, _, u in seen)
    framework.driver.reconcileTasks([])
    framework.wait_states({"known": "TASK_RUNNING"})
    framework.driver.killTask({"value": "known"})
    framework.wait_states({"known": "TASK_KILLED"})


def test_a_framework_fails_over_and_keeps_its_tasks(cluster):
    first = Framework(cluster.mesos, name="failover")
    framework_id = first.registered()
    first.launch(first.offer(), {"survivor": "sleep 600"})
    first.wait_states({"survivor": "TASK_RUNNING"})
    first.stop(failover=True)
    second = Framework(cluster.mesos, name="failover", framework_id=framework_id)
    assert second.registered() == framework_id
    second.driver.reconcileTasks([])
    second.wait_states({"survivor": "TASK_RUNNING"})
    second.driver.killTask({"value": "survivor"})
    second.wait_states({"survivor": "TASK_KILLED"})
    second.stop()
    until(lambda: all(f["id"] != framework_id for f in state(cluster)["frameworks"]), what="the framework to be removed")


def test_pods_and_tasks_share_one_book(cluster, framework, namespace):
    """What pods hold is not offered; what tasks hold is not given to pods."""
    offer = framework.offer()
    cpus = next(r["scalar"]["value"] for r in offer["resources"] if r["name"] == "cpus")
    framework.driver.declineOffer(offer["id"], {"refuse_seconds": 0})
    request = {"requests": {"cpu": "1", "memory": "32Mi"}}
    cluster.kubectl("run", "eater", "-n", namespace, "--image=busybox", "--image-pull-policy=IfNotPresent",
                    "--overrides", json.dumps({"spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                        "name": "eater", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "600"], "resources": request}]}}))
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/eater", "--timeout=30s")

    def smaller():
        try:
            o = framework.offer(seconds=5)
        except queue.Empty:
            return None
        left = next(r["scalar"]["value"] for r in o["resources"] if r["name"] == "cpus")
        framework.driver.declineOffer(o["id"], {"refuse_seconds": 0})
        return left <= cpus - 1 + 1e-6

    until(smaller, what="an offer without the pod's cpu")


def test_a_task_sees_the_machine_but_not_the_clusters_keys(cluster, framework):
    key, store = cluster.data_dir / "pki/ca.key", cluster.data_dir / "store"
    assert key.exists() and store.exists()
    framework.launch(framework.offer(), {
        "host": "test -d /etc/apt",
        "thief": f"cat {key}",
        "snoop": f"ls {store}/*",
    })
    framework.wait_states({"host": "TASK_FINISHED", "thief": "TASK_FAILED", "snoop": "TASK_FAILED"})
