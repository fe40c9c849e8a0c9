"""A batch framework, a Deployment and a burst of pods want one agent at once: each gets its part, and everything ends."""

import collections
import queue
import threading

from addict import Dict
from framework import Framework

from conftest import until

TASKS, BURST = 40, 16


def test_a_batch_framework_a_deployment_and_a_burst_share_one_agent(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    container = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent"}
    work = lambda script: {"terminationGracePeriodSeconds": 0, "containers": [{
        **container, "command": ["sh", "-c", script], "resources": {"requests": {"cpu": "400m", "memory": "16Mi"}}}]}
    f = Framework(cluster.mesos, name="batch")
    f.registered()
    states, waiting, running = {}, collections.deque(range(TASKS)), threading.Event()

    def serve():
        """As a batch framework does: as many tasks as an offer holds, and on with the next one."""
        while not stop.is_set():
            try:
                offer = f.scheduler.offers.get(timeout=0.2)
            except queue.Empty:
                continue
            room = {r["name"]: r["scalar"]["value"] for r in offer["resources"] if r["type"] == "SCALAR"}
            tasks = []
            while waiting and room.get("cpus", 0) >= 0.5 * (len(tasks) + 1) and room.get("mem", 0) >= 32 * (len(tasks) + 1):
                name = f"batch-{waiting.popleft()}"
                info = Dict(name=name, agent_id=offer["agent_id"], command=Dict(value="sleep 1", shell=True))
                info.task_id.value = name
                info.resources = [Dict(name=n, type="SCALAR", scalar=Dict(value=v)) for n, v in [("cpus", 0.5), ("mem", 32)]]
                tasks.append(info)
            if tasks:
                f.driver.launchTasks(offer["id"], tasks, Dict(refuse_seconds=0.1))
            else:
                f.driver.declineOffer([offer["id"]], Dict(refuse_seconds=0.1))

    def listen():
        while not stop.is_set():
            try:
                task, state, update = f.scheduler.updates.get(timeout=0.2)
            except queue.Empty:
                continue
            states[task] = state
            if state in ("TASK_LOST", "TASK_ERROR", "TASK_DROPPED"):
                # An offer that was taken back for a pod: the task is tried again.
                waiting.append(int(task.split("-")[1]))
            if state == "TASK_RUNNING":
                running.set()

    stop = threading.Event()
    threads = [threading.Thread(target=t, daemon=True) for t in (serve, listen)]
    [t.start() for t in threads]
    try:
        assert running.wait(30), "the framework has the agent to itself at first"
        cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": work("sleep 600")}}}, "-n", namespace)
        cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "burst"}, "spec": {
            "completions": BURST, "parallelism": BURST,
            "template": {"spec": {**work("sleep 1"), "restartPolicy": "Never"}}}}, "-n", namespace)
        k("rollout", "status", "deployment/web", "--timeout=120s")
        k("wait", "--for=condition=Complete", "job/burst", "--timeout=180s")
        finished = lambda: sum(s == "TASK_FINISHED" for s in states.values())
        until(lambda: finished() == TASKS, seconds=180, what="every task to finish")
        assert int(k("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}")) == 2, "what runs was not pushed aside"
    finally:
        stop.set()
        [t.join() for t in threads]
        f.stop()
