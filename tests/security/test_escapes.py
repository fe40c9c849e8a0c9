"""Known ways out of a container, one story a class: each is tried from inside, as root of the container.

The runtime's own tests (`crates/runtime/tests`) hold the same ground against single containers; here the whole way from
`kubectl` is walked.
"""

import hashlib
import os
import pathlib
import subprocess
import sys

from conftest import STOA, until

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "node"))
from pods import container, pod, pods  # noqa: E402,F401


def digest():
    return hashlib.sha256(pathlib.Path(STOA).read_bytes()).hexdigest()


def test_the_runtimes_binary_cannot_be_overwritten(pods):
    """CVE-2019-5736, CVE-2019-0204: every process that enters the container is reached for through /proc."""
    before = digest()
    grab = "while :; do for p in /proc/[0-9]*; do echo x 2>/dev/null >> $p/exe && echo WROTE $p; done; done 2>/dev/null"
    pods.create(pod("grab", grab))
    pods.ready("grab")
    for _ in range(5):
        assert pods.sh("grab", "echo in").endswith("in\n")
    # Busybox is the container's own and may be what it likes; ours is not.
    assert digest() == before
    assert subprocess.run([STOA, "version"], capture_output=True).returncode == 0


def test_no_descriptor_of_the_machine_leaks(pods):
    """CVE-2024-21626: neither the first process nor one that joins has more than its streams, nor a way through one."""
    pods.create(pod("fds", "ls -l /proc/self/fd; sleep 1000"),
                *[pod(f"cwd-{n}", {"name": "c0", "script": "cat /etc/hostname", "workingDir": f"/proc/self/fd/{n}"}, restartPolicy="Never")
                  for n in (7, 8)])
    pods.ready("fds")
    logged = until(lambda: (said := pods.logs("fds")).count(" -> ") >= 3 and said, what="the first process's list")
    for listing in (logged, pods.sh("fds", "ls -l /proc/self/fd")):
        links = [l.split(" -> ")[1] for l in listing.splitlines() if " -> " in l]
        assert 3 <= len(links) <= 4 and all(l.startswith(("pipe:", "/dev/", "/proc/", "socket:")) for l in links), listing
    for n in (7, 8):
        status = pods.phase(f"cwd-{n}", "Failed")
        assert container(status, "c0")["state"]["terminated"]["exitCode"] == 128


def test_what_the_kernel_shows_is_masked_and_read_only(pods):
    """CVE-2025-31133, -52881: masks hold, and nothing of /proc or /sys takes a write."""
    pods.create(pod("kernel", "sleep 1000"))
    pods.ready("kernel")
    tries = {
        "masked": "test -s /proc/kcore || test -n \"$(ls -A /sys/firmware)\" || test -s /proc/keys || test -s /proc/timer_list",
        "sysrq": "echo h > /proc/sysrq-trigger",
        "core pattern": "echo '|/x' > /proc/sys/kernel/core_pattern",
        "irq": "echo 1 > /proc/irq/default_smp_affinity",
        "sysfs": "echo x > /sys/kernel/uevent_helper || mkdir /sys/fs/cgroup/x || echo 1 > /sys/fs/cgroup/memory/cgroup.procs",
        "release agent": "mkdir /tmp/cg && mount -t cgroup -o memory none /tmp/cg",
        "remount": "mount -o remount,rw /proc/sys || umount /proc/kcore || mount -t proc proc /mnt",
        "devices": "mknod /tmp/vda b 254 0 && head -c 1 /tmp/vda",
        "modules": "insmod /x.ko || test -w /proc/sys/kernel/modprobe",
        "user namespace": "unshare -Ur true || unshare -m true",
    }
    for what, script in tries.items():
        assert pods.sh("kernel", f"({script}) >/dev/null 2>&1 && echo OUT; true") == "", what


def test_capabilities_and_filter_are_an_engines_and_none_is_inherited(pods):
    """CVE-2022-29162, seccomp off by default (audit of 2019)."""
    show = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status"
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsUser": 1000}
    pods.create(pod("caps", f"{show}; sleep 1000", {"name": "locked", "script": f"{show}; sleep 1000", "securityContext": locked}))
    pods.ready("caps")
    for name in ("c0", "locked"):
        log = until(lambda: "Seccomp:" in (said := pods.logs("caps", "-c", name)) and said, what="its status")
        value = dict(line.split(":\t") for line in log.splitlines())
        assert value["CapInh"] == value["CapAmb"] == "0" * 16
        assert value["Seccomp"] == "2"
        assert int(value["CapEff"], 16) & (1 << 21 | 1 << 19 | 1 << 12) == 0
        if name == "locked":
            assert value["CapEff"] == value["CapBnd"] == "0" * 16 and value["NoNewPrivs"] == "1"


def test_a_volumes_links_lead_nowhere_else(pods):
    """CVE-2017-1002101, CVE-2021-25741, CVE-2021-30465: one container swaps a link while others are started on it."""
    swap = "cd /v; while :; do rm -rf x; ln -s / x; rm -f x; mkdir x; done"
    sub = {"name": "v", "mountPath": "/sub", "subPath": "x"}
    look = {"name": "look", "script": "test -e /sub/proc || test -e /sub/etc/hosts || test -e /sub/var && echo ESCAPED; exit 1",
            "volumeMounts": [sub]}
    volumes = [{"name": "v", "emptyDir": {}}]
    pods.create(pod("race", {"name": "swap", "script": swap, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, look,
                    {**look, "name": "look2"}, volumes=volumes))
    # The runtime's own test makes thousands of tries; here a handful takes the whole way.
    was_tried = lambda c: c.get("restartCount", 0) >= 1 or c.get("state", {}).get("waiting", {}).get("reason", "").startswith("CreateContainer")
    pods.until("race", lambda s: all(was_tried(container(s, n)) for n in ("look", "look2")), what="a few tries")
    for name in ("look", "look2"):
        for args in ([], ["--previous"]):
            assert "ESCAPED" not in pods.kubectl("logs", "race", "-c", name, *args, check=False)
    still = pod("still", {"name": "c0", "script": "sleep 1000", "volumeMounts": [{**sub, "subPath": "out"}]},
                initContainers=[{"name": "i", "script": "ln -s / /v/out", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
                volumes=volumes)
    pods.create(still)
    refused = lambda s: container(s, "c0").get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError"
    status = pods.until("still", refused, what="the refusal")
    assert "subPath" in container(status, "c0")["state"]["waiting"]["message"]


def test_a_flood_is_bounded(pods):
    """A fork bomb, a memory hog, last words without end: each hurts its own pod only."""
    pods.create(
        pod("hog", {"name": "c0", "script": "head -c 200m /dev/zero | tail", "resources": {"limits": {"memory": "24Mi"}}}, restartPolicy="Never"),
        pod("words", "yes | head -c 1000000 > /dev/termination-log", restartPolicy="Never"),
    )
    status = pods.phase("hog", "Failed")
    assert container(status, "c0")["state"]["terminated"]["reason"] == "OOMKilled"
    status = pods.phase("words", "Succeeded")
    assert len(container(status, "c0")["state"]["terminated"]["message"]) == 4096
    pods.create(pod("bomb", "sleep 1000"))
    pods.ready("bomb")
    uid = pods.get("bomb")["metadata"]["uid"]
    limits = [p / "pids.max" for p in pathlib.Path("/sys/fs/cgroup").glob(f"**/stoa-{pods.cluster.id}/**/pod{uid}")]
    numbers = [p.read_text().strip() for p in limits if p.exists()]
    assert numbers and all(n.isdigit() for n in numbers), "a pod may fork without end"


def test_a_shared_first_process_is_no_way_to_the_machine(pods):
    """The first process of shared namespaces runs outside of every image: it must hold nothing."""
    pods.create(pod("shared", "sleep 1000", shareProcessNamespace=True))
    pods.ready("shared")
    out = pods.sh("shared", "ls /proc/1/root/ /proc/1/cwd/ /proc/1/fd/ 2>&1; cat /proc/1/environ 2>&1; grep Uid /proc/1/status")
    assert "etc" not in out and "Permission denied" in out and "65535" in out
    assert pods.sh("shared", "kill -9 1; sleep 0.2; echo alive") == "alive\n"


def test_secrets_are_in_no_log(pods):
    """CVE-2019-11250."""
    word = "tell-nobody-0815"
    pods.kubectl("create", "secret", "generic", "s", f"--from-literal=k={word}")
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    pods.create(pod("knows", {"name": "c0", "script": "sleep 1000", "env": env}))
    pods.ready("knows")
    pods.kubectl("delete", "pod", "knows", "--timeout=20s")
    assert word not in pods.cluster.log_path.read_text(errors="replace")


def test_the_agent_listens_to_nobody(cluster):
    """The kubelet's open ports (10250, 10255) and shim sockets anyone could dial (CVE-2020-15257) have no counterpart."""
    inodes = set()
    for fd in pathlib.Path(f"/proc/{cluster.process.pid}/fd").iterdir():
        try:
            link = os.readlink(fd)
        except OSError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            f = line.split()
            if f[3] == "0A" and f[9] in inodes:
                listening.add(int(f[1].split(":")[1], 16))
    assert {cluster.api_port, cluster.mesos_port} <= listening
    assert not listening & {10250, 10255, 10248, 4194}
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines():
        assert not ("@" in line and ("stoa" in line or "shim" in line)), line
