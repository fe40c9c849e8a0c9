"""Hours of use and abuse, made short: pods come and go by the hundred, flood their logs and fork without end, and the machine
is afterwards as it was before. STOA_SOAK_PODS makes it long."""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from conftest import until

PODS = int(os.environ.get("STOA_SOAK_PODS", "90"))
AT_ONCE = 30
LOG_BYTES, LOG_FILES = 1 << 20, 3


@pytest.fixture
def c(own_cluster):
    own_cluster.stop()
    return own_cluster.start("--log-bytes-max", str(LOG_BYTES), "--log-files-max", str(LOG_FILES), "--pod-pids-max", "200").wait_node()


def pod(name, command, policy="Never", **spec):
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "soak"}},
        "spec": dict({"restartPolicy": policy, "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command],
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
            "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}]}, **spec),
    }


def holdings(c):
    """Everything of this cluster that could leak, counted."""
    pid = c.process.pid
    listed = lambda path: sorted(os.listdir(path)) if os.path.isdir(path) else []
    agent = c.data_dir / "agent"
    cgroups = sum(1 for base, dirs, _ in os.walk("/sys/fs/cgroup") for d in dirs if re.fullmatch(r"pod[0-9a-f-]{36}", d) and c.id in base)
    mounts = sum(str(c.data_dir) in line for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    links = [l for l in os.listdir("/sys/class/net") if l not in ("lo",)]
    peers = subprocess.run(["ip", "-o", "link", "show", "type", "veth"], capture_output=True, text=True).stdout
    bridge = next((l for l in links if c.id in l), None)
    return {
        "cgroups": cgroups, "mounts": mounts,
        "veths on the bridge": sum(f"master {bridge}" in l for l in peers.splitlines()) if bridge else 0,
        "shims": sum(" shim " in p for p in c.processes()),
        "pods": listed(agent / "pods"), "logs": listed(agent / "logs"), "finished": listed(agent / "finished"),
        "sandboxes": listed(agent / "sandboxes"), "containers": listed(agent / "runtime/containers"),
        "zombies": zombies(pid),
    }


def zombies(pid):
    return sum(1 for p in filter(str.isdigit, os.listdir("/proc")) if is_zombie_of(p, pid))


def is_zombie_of(p, pid):
    try:
        fields = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return fields[0] == "Z" and int(fields[1]) == pid


def descriptors(c):
    return len(os.listdir(f"/proc/{c.process.pid}/fd"))


def test_hundreds_of_short_lived_pods_leave_nothing(c):
    round_of(c, 0, 4)  # whatever is made once and kept is made now
    empty, fds = settle(c), descriptors(c)
    done = 0
    while done < PODS:
        n = min(AT_ONCE, PODS - done)
        round_of(c, done, n)
        done += n
    until(lambda: holdings(c) == empty, seconds=30, what=f"the machine to be as before ({empty}), now {holdings(c)}", pause=0.5)
    # Connections of clients come and go; a leak of one descriptor a pod would show.
    until(lambda: descriptors(c) <= fds + 8, what=f"no more than {fds} descriptors, now {descriptors(c)}", pause=0.5)


def settle(c):
    until(lambda: not holdings(c)["pods"] and not holdings(c)["shims"], what="an empty machine", pause=0.2)
    return holdings(c)


def round_of(c, first, n):
    items = [pod(f"short-{first + i}", "echo hello > /scratch/f; exit $((%d %% 3))" % i) for i in range(n)]
    c.kubectl("create", "--validate=false", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def ended():
        phases = c.kubectl("get", "pods", "-l", "app=soak", "-o", "jsonpath={.items[*].status.phase}").split()
        return len(phases) == n and set(phases) <= {"Succeeded", "Failed"}

    until(ended, seconds=60, what=f"{n} pods to end", pause=0.3)
    c.kubectl("delete", "pods", "-l", "app=soak", "--timeout=60s")


def test_a_flood_of_log_lines_is_bounded_and_stops_nobody(c):
    c.apply(pod("flood", "yes 'a line of a flood that does not end by itself'"))
    c.apply(pod("calm", "while true; do echo calm; sleep 0.2; done"))
    c.kubectl("wait", "--for=condition=Ready", "pod/flood", "pod/calm", "--timeout=30s")
    logs = c.data_dir / "agent/logs"
    size = lambda: sum(f.stat().st_size for f in logs.rglob("*.log*"))
    began, worst, rotated = time.monotonic(), 0, set()
    while time.monotonic() - began < 8:
        try:
            worst = max(worst, size())
            rotated |= {f.stat().st_ino for f in logs.rglob("*.log*")}
        except FileNotFoundError:
            pass  # rotated away between the listing and the look
        # Another line may come while the last one is read.
        assert set(c.kubectl("logs", "calm", "--tail=1").splitlines()) == {"calm"}
    assert worst <= (LOG_FILES + 1) * LOG_BYTES + (1 << 20), f"{worst} bytes of logs"
    # Inodes come back soon after a file is rotated away: how many there were says little.
    assert len(rotated) > LOG_FILES and worst > LOG_BYTES, f"it was no flood: {len(rotated)} files, {worst} bytes"
    assert "a line of a flood" in c.kubectl("logs", "flood", "--tail=1")
    began = time.monotonic()
    c.kubectl("delete", "pod", "flood", "calm", "--timeout=30s")
    assert time.monotonic() - began < 15
    settle(c)


def test_a_fork_bomb_stays_in_its_pod_and_is_ended(c):
    c.apply(pod("bomb", "bomb() { bomb | bomb & }; bomb; sleep 3600"))
    c.apply(pod("bystander", "sleep 3600"))
    c.kubectl("wait", "--for=condition=Ready", "pod/bystander", "--timeout=30s")
    until(lambda: json.loads(c.kubectl("get", "pod", "bomb", "-o", "json"))["status"]["phase"] != "Pending", what="the bomb to go off")
    assert c.kubectl("exec", "bystander", "--", "echo", "unharmed", timeout=30) == "unharmed\n"
    assert c.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.conditions[?(@.type=='Ready')].status}") == "True"
    c.kubectl("delete", "pod", "bomb", "bystander", "--timeout=40s")
    settle(c)
