"""Thirty rounds of kill -9 on a random process during a rolling update while a framework launches tasks: everything
converges, no container is an orphan, no acknowledged write is lost, and the framework hears of every task."""

import json
import os
import pathlib
import queue
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "pymesos"))
from framework import Framework  # noqa: E402

from conftest import until  # noqa: E402

ROUNDS = int(os.environ.get("STOA_FAULT_ROUNDS", "30"))
SEED = int(os.environ.get("STOA_FAULT_SEED", "0")) or random.randrange(1, 1 << 30)
TERMINAL = {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_LOST", "TASK_ERROR"}


def deployment(version):
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "roll"},
        "spec": {
            "replicas": 4, "selector": {"matchLabels": {"app": "roll"}},
            "template": {
                "metadata": {"labels": {"app": "roll"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
                        "env": [{"name": "VERSION", "value": str(version)}],
                        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}},
                    }],
                },
            },
        },
    }


def victims(c):
    """The master-and-agent process, or one container's helper."""
    helpers = [int(p.split()[0]) for p in c.processes() if " shim " in p]
    return helpers


def test_thirty_rounds_of_kill_9_converge(own_cluster):
    c, rng = own_cluster, random.Random(SEED)
    print(f"seed {SEED}")
    framework = Framework(c.mesos, name="faults", failover_timeout=600)
    framework.registered()
    told, launched, acknowledged = {}, set(), []

    def drain():
        while True:
            try:
                task, state, _ = framework.scheduler.updates.get_nowait()
            except queue.Empty:
                return
            told.setdefault(task, []).append(state)

    def launch(i):
        try:
            offer = framework.offer(seconds=2)
        except queue.Empty:
            return
        task = f"task-{i}"
        launched.add(task)
        framework.launch(offer, {task: "sleep 0.3"})

    for i in range(ROUNDS):
        done = c.kubectl("create", "configmap", f"ack-{i}", f"--from-literal=round={i}", check=False)
        if "created" in done:
            acknowledged.append(f"ack-{i}")
        c.kubectl("apply", "-f", "-", input=json.dumps(deployment(i)), check=False)
        launch(i)
        time.sleep(rng.uniform(0, 0.8))  # the instant of the kill is what the story draws by lot
        helpers = victims(c)
        if helpers and rng.random() < 0.4:
            try:
                os.kill(rng.choice(helpers), signal.SIGKILL)
            except ProcessLookupError:
                pass
        else:
            c.kill9()
            c.start()
        drain()

    c.wait_node()
    c.apply(deployment("last"))
    c.kubectl("rollout", "status", "deployment/roll", "--timeout=120s")
    present = c.kubectl("get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}").split()
    lost = [a for a in acknowledged if a not in present]
    assert not lost, f"acknowledged writes were lost: {lost} (seed {SEED})"

    def all_told():
        drain()
        open_tasks = [t for t in launched if not TERMINAL & set(told.get(t, []))]
        if open_tasks:
            framework.driver.reconcileTasks([{"task_id": {"value": t}} for t in open_tasks])
            time.sleep(0.5)
        return not open_tasks

    until(all_told, seconds=90, what="the framework to hear the end of every task")
    framework.stop()

    def settled():
        pods = c.json("get", "pods", "-A")["items"]
        live = [p for p in pods if p["metadata"].get("labels", {}).get("app") == "roll"]
        return len(live) == 4 and len(victims(c)) == 4

    until(settled, seconds=90, what="exactly the deployment's four containers to be left")
