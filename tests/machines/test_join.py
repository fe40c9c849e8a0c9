"""A master and two agents that joined by token: one list of nodes, pods on both, and no way in without a token."""

import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import EVICTION_HARD, STOA, Cluster, until


class Machine(Cluster):
    """An agent in its own data directory."""

    def join(self, master, name, token):
        command = [STOA, "agent", "--master", f"https://127.0.0.1:{master.api_port}", "--data-dir", self.data_dir,
                   "--node-name", name, "--resources", "cpus:2;mem:2048", "--eviction-hard", EVICTION_HARD]
        if token:
            command += ["--token", token]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        assert line == f"ready: agent {name}\n", f"{line!r}\n{self.log_tail()}"
        return self


class Master(Cluster):
    def start(self):
        command = [STOA, "master", "--data-dir", self.data_dir, "--api-port", self.api_port, "--mesos-port", self.mesos_port,
                   "--mesos-anonymous"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout.readline().startswith("ready:"), self.log_tail()
        return self


@pytest.fixture
def machines():
    base = pathlib.Path(tempfile.mkdtemp(prefix="stoa-e2e-", dir="/var/tmp"))
    master = Master(base / "master").start()
    agents = [Machine(base / f"agent{i}") for i in (1, 2)]
    yield master, agents
    for a in agents:
        if a.data_dir.exists():
            a.down()
            assert not (left := a.residue()), "\n".join(left)
    master.stop()
    shutil.rmtree(base, ignore_errors=True)


def nodes(master):
    return {n["metadata"]["name"]: n for n in master.json("get", "nodes")["items"]}


def test_machines_join_by_token_and_share_the_pods(machines):
    master, agents = machines
    token = master.stoa("token", "create").strip()
    for i, agent in enumerate(agents):
        agent.images()
        agent.join(master, f"n{i}", token)
    until(lambda: len(nodes(master)) == 2, what="two nodes")
    master.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=30s")
    assert len({n["spec"]["podCIDR"] for n in nodes(master).values()}) == 2, "every node has addresses of its own"

    master.apply({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "spread"},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "spread"}}, "template": {
            "metadata": {"labels": {"app": "spread"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}]}}}})
    master.kubectl("rollout", "status", "deployment/spread", "--timeout=60s")
    pods = master.json("get", "pods")["items"]
    assert {p["spec"]["nodeName"] for p in pods} == {"n0", "n1"}

    # An agent that comes back needs no token, and its pods were never touched.
    before = {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["containerID"] for p in pods}
    agents[0].kill9()
    agents[0].join(master, "n0", None)
    for pod in pods:
        # It is ready before its leader has noticed that it is back.
        echo = lambda: master.kubectl("exec", pod["metadata"]["name"], "--", "echo", "here", check=False)
        until(lambda: echo() == "here\n", what=f"{pod['metadata']['name']} to answer")
    after = {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["containerID"] for p in master.json("get", "pods")["items"]}
    assert after == before


def test_a_machine_without_a_good_token_stays_out(machines):
    master, agents = machines
    good = master.stoa("token", "create").strip()
    ident, secret, pin = good.split(".")
    forged = [
        f"{ident}.{'0' * 16}.{pin}",
        f"zzzzzz.{secret}.{pin}",
        f"{ident}.{secret}.{'0' * 64}",
        "nonsense",
    ]
    for token in forged:
        done = subprocess.run(
            [STOA, "agent", "--master", f"https://127.0.0.1:{master.api_port}", "--data-dir", agents[0].data_dir,
             "--node-name", "intruder", "--token", token], capture_output=True, text=True, timeout=30)
        assert done.returncode == 1 and "error:" in done.stderr, done.stderr
        assert secret not in done.stderr
    assert nodes(master) == {}
