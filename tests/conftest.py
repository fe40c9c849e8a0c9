"""The stage on which every story plays: a real one-machine cluster, started and stopped by its process id.

A failure shows the end of the cluster's log. Waiting is always for an event (a line, an exit, a condition that a
client watches), with a bound.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
STOA = pathlib.Path(os.environ.get("STOA_BIN", ROOT / "target/debug/stoa")).resolve()
KUBECTL = ROOT / ".stoa/tools/bin/kubectl"
START_SECONDS_MAX = 30
# Whatever else fills the disk of the machine that runs the stories is no pressure.
EVICTION_HARD = "memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<1%,imagefs.available<1Gi,pid.available<5%"
LOG_LINES_SHOWN = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition, seconds=30, what="the condition", pause=0.05):
    """Asks again until the answer is true; the last answer is shown when time is up. A field or an entry that is not there yet
    is an answer like another: not now."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = condition()
        except (KeyError, IndexError) as absent:
            answer = absent
        else:
            if answer:
                return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true in {seconds} s; last answer: {answer!r}")
        time.sleep(pause)


class Cluster:
    """A one-machine cluster of `stoa up` in its own data directory."""

    def __init__(self, data_dir):
        self.data_dir = pathlib.Path(data_dir)
        self.api_port, self.mesos_port = free_port(), free_port()
        self.process = None
        self.resources = "cpus:4;mem:4096;ports:[31000-32000]"
        self.log_path = self.data_dir.parent / (self.data_dir.name + ".log")
        self.env = dict(os.environ, KUBECONFIG=str(self.data_dir / "kubeconfig"))

    @property
    def mesos(self):
        return f"127.0.0.1:{self.mesos_port}"

    @property
    def id(self):
        return json.loads((self.data_dir / "cluster.json").read_text())["id"]

    def images(self):
        subprocess.run([ROOT / "scripts/images.sh", STOA, self.data_dir], check=True, capture_output=True)

    def start(self, *more):
        command = [
            STOA, "up", "--data-dir", self.data_dir, "--api-port", self.api_port, "--mesos-port", self.mesos_port,
            "--mesos-anonymous", "--agent-resources", self.resources, *more,
        ]
        if "--eviction-hard" not in more:
            command += ["--eviction-hard", EVICTION_HARD, "--image-gc-high-percent", "100"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready:"), f"expected the ready line, got {line!r}\n{self.log_tail()}"
        return self

    def wait_node(self):
        until(lambda: self.kubectl("get", "nodes", "-o", "name", check=False).strip(), what="a node")
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=30s")
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=START_SECONDS_MAX)

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=START_SECONDS_MAX)

    def down(self):
        self.stop()
        subprocess.run([STOA, "down", "--data-dir", self.data_dir], check=True, capture_output=True, text=True)

    def stoa(self, *args):
        done = subprocess.run([STOA, *args, "--data-dir", self.data_dir], capture_output=True, text=True)
        assert done.returncode == 0, f"stoa {' '.join(map(str, args))}: {done.stderr}"
        return done.stdout

    def kubectl(self, *args, input=None, check=True, timeout=120, stderr=False):
        done = subprocess.run(
            [KUBECTL, *map(str, args)], env=self.env, input=input, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"kubectl {' '.join(map(str, args))}\nexit code {done.returncode}\nout: {done.stdout}\nerr: {done.stderr}"
            )
        return done.stdout + (done.stderr if stderr else "")

    def apply(self, manifest, *args):
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.kubectl("apply", *args, "-f", "-", input=text)

    def json(self, *args):
        return json.loads(self.kubectl(*args, "-o", "json"))

    def popen(self, *args, **kwargs):
        return subprocess.Popen([str(KUBECTL), *map(str, args)], env=self.env, text=True, **kwargs)

    def log_tail(self, lines=LOG_LINES_SHOWN):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def residue(self):
        """Whatever this cluster left on the machine: mounts, links, tables, cgroups and processes by its id or path."""
        found = []
        marks = (str(self.data_dir), self.id)
        for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
            if str(self.data_dir) in line:
                found.append(f"mount {line}")
        for link in os.listdir("/sys/class/net"):
            if self.id in link:
                found.append(f"link {link}")
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
        found += [f"nft {t}" for t in tables.splitlines() if self.id in t]
        for base, dirs, _ in os.walk("/sys/fs/cgroup"):
            found += [f"cgroup {base}/{d}" for d in dirs if self.id in d]
        found += [f"process {p}" for p in self.processes()]
        return [f for f in found if any(m in f for m in marks)]

    def processes(self):
        """Command lines of every process that names this cluster's directory."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.data_dir) in line:
                found.append(f"{pid} {line}")
        return found


@pytest.fixture(scope="session")
def _shared():
    base = tempfile.mkdtemp(prefix="stoa-e2e-", dir="/var/tmp")
    c = Cluster(pathlib.Path(base) / "shared")
    c.images()
    c.start().wait_node()
    yield c
    c.down()
    left = c.residue()
    shutil.rmtree(base, ignore_errors=True)
    assert not left, "the shared cluster left behind:\n" + "\n".join(left)


@pytest.fixture
def cluster(_shared):
    """The cluster that all well-behaved stories share."""
    return _shared


@pytest.fixture
def own_cluster():
    """A cluster of one's own, for stories that break it."""
    base = tempfile.mkdtemp(prefix="stoa-e2e-", dir="/var/tmp")
    c = Cluster(pathlib.Path(base) / "own")
    c.images()
    c.start().wait_node()
    yield c
    c.down()
    left = c.residue()
    shutil.rmtree(base, ignore_errors=True)
    assert not left, "the cluster left behind:\n" + "\n".join(left)


@pytest.fixture
def namespace(cluster, request):
    """A namespace for one story, gone afterwards."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:50].strip("-")
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=true", "--timeout=60s")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for name in ("cluster", "own_cluster", "_shared"):
            c = getattr(item, "funcargs", {}).get(name)
            if c is not None:
                report.sections.append((f"the end of {name}'s log", c.log_tail()))
                break
