"""Races for what a runtime makes in a container: one container, already running, puts links where another one that is being
started has its devices, its masks and its descriptors made. Each story is named after its class.

Every container that starts is one try, so each pod starts many, and starts them again.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "node"))
from pods import container, pod, pods  # noqa: E402,F401
from test_layers import LINK, archive, bring, entry  # noqa: E402

TRIES = 6
KERNEL = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hotplug", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches"]
# Whatever of the kernel's that no container may read or write, and what is mounted where.
LOOK = """
for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do test -e $f && test -n "$(head -c 1 $f 2>/dev/null | tr '\\0' x)" && echo "OUT: $f can be read"; done
test -d /sys/firmware && test -n "$(ls -A /sys/firmware)" && echo "OUT: /sys/firmware is not masked"
for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger /proc/irq/default_smp_affinity; do
  test "$(stat -f -c %t $f 2>/dev/null)" = 9fa0 && (printf '' >> $f) 2>/dev/null && echo "OUT: $f can be written"; done
while read -r _ _ _ _ at options more; do case "$at $options $more " in
  /proc/*\\ rw*\\ -\\ proc\\ *|/proc/*\\ rw*\\ -\\ sysfs\\ *|/dev*\\ -\\ proc\\ *) echo "OUT: $at is $options $more";; esac; done < /proc/self/mountinfo
test -e /dev/null/x || test -d /dev/shm/proc || test -d /dev/pts/kernel && echo "OUT: /dev leads elsewhere"
echo LOOKED
"""


def values():
    """What a container must not have changed on the machine."""
    return {f: pathlib.Path(f).read_bytes() for f in KERNEL if os.path.exists(f) and os.access(f, os.R_OK)}


def swap(*names, to):
    """A script that puts links in the place of these names of /v and takes them away, now at once and now after a while: who is
    started meanwhile is met at any point of it, and not always at the first."""
    turns = "; ".join(f"ln -sfn {to} {n}; rm -rf {n}; usleep $((RANDOM % 20000))" for n in names)
    return f"mkdir -p /v; cd /v; touch begun; while :; do {turns}; done"


def race(pods, name, script, mounts, **more):
    """A pod in which `swap` races with many others that have the same volume at `mounts`, until each of those was tried twice."""
    volumes = [{"name": "v", "emptyDir": {}}]
    at = lambda *paths: [{"name": "v", "mountPath": p} for p in paths]
    tries = [{"name": f"t{i}", "script": f"{LOOK}exit 1", "volumeMounts": at(*mounts), **more} for i in range(TRIES)]
    swapper = {"name": "swap", "script": script, "volumeMounts": at("/v"), "restartPolicy": "Always",
               "startupProbe": {"exec": {"command": ["test", "-e", "/v/begun"]}, "periodSeconds": 1}}
    pods.create(pod(name, *tries, initContainers=[swapper], volumes=volumes))
    waiting = lambda c: c.get("state", {}).get("waiting", {}).get("reason", "")
    was_tried = lambda c: c.get("restartCount", 0) >= 1 or waiting(c).startswith(("CreateContainer", "RunContainer", "CrashLoop"))
    status = pods.until(name, lambda s: all(was_tried(container(s, t["name"])) for t in tries), seconds=90, what="all tries")
    said = [pods.kubectl("logs", name, "-c", t["name"], *args, check=False) for t in tries for args in ([], ["--previous"])]
    assert not [s for s in said if "OUT" in s], said
    pods.kubectl("delete", "pod", name, "--wait=true", "--timeout=30s")


def test_a_mask_is_made_of_no_other_file_than_the_null_device(pods):
    """CVE-2025-31133: while masks are laid, /dev/null is a link to what they hide."""
    before = values()
    # Who may do so finds what nobody else does.
    pods.create(pod("may", {"name": "c0", "script": LOOK, "securityContext": {"privileged": True}}, restartPolicy="Never"))
    pods.phase("may", "Succeeded")
    assert "OUT: /proc/sys/kernel/core_pattern can be written" in pods.logs("may")
    race(pods, "mask", swap("null", "zero", "full", to="/proc/sys/kernel/core_pattern"), ["/dev"])
    assert values() == before, "the machine's own values changed"
    # Also without a race: a link that stays is never what masks are made of.
    link = "rm -rf /v/null; ln -s /proc/sys/kernel/core_pattern /v/null"
    still = {"name": "c0", "script": LOOK, "volumeMounts": [{"name": "v", "mountPath": "/dev"}]}
    pods.create(pod("still", still, restartPolicy="Never", volumes=[{"name": "v", "emptyDir": {}}],
                    initContainers=[{"name": "i", "script": link, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]))
    pods.until("still", lambda s: s.get("phase") in ("Failed", "Succeeded") or container(s, "c0").get("state", {}).get("waiting", {}).get("reason", "").startswith(("Create", "Run")))
    assert "OUT" not in pods.kubectl("logs", "still", check=False)
    assert values() == before


def test_a_console_is_put_on_no_link(pods):
    """CVE-2025-52565: a terminal is asked for, and /dev/console and /dev/pts are links when it is put there."""
    before = values()
    race(pods, "console", swap("console", "pts", "ptmx", "tty", to="/proc/sys/kernel/core_pattern"), ["/dev"], tty=True, stdin=True)
    race(pods, "terminals", swap("console", "pts", "ptmx", to="/proc/sys/kernel/modprobe"), ["/dev"], tty=True)
    assert values() == before


def test_what_a_runtime_writes_to_proc_goes_nowhere_else(pods):
    """CVE-2025-52881: /proc/self and what lies in it lead elsewhere when labels, limits and parameters are written there."""
    before = values()
    for name, mounts in [("proc", ["/proc"]), ("below", ["/proc/self/attr", "/proc/sys/net"]), ("around", ["/proc/1", "/proc/thread-self"])]:
        script = swap("self", "attr", "sys", "sysrq-trigger", to="/sys/kernel")
        race(pods, name, script, mounts)
    assert values() == before


def test_an_images_own_links_lead_out_of_none_of_these(pods, tmp_path):
    """CVE-2025-31133, -52565, -52881, as an image has them from the start, raced besides by who shares a volume with it."""
    busybox = pathlib.Path("/bin/busybox")
    busybox = busybox if busybox.exists() else pathlib.Path("/usr/bin/busybox")
    link = lambda **to: [entry(name.replace("__", "/"), LINK, there) for name, there in to.items()]
    core = "/proc/sys/kernel/core_pattern"
    names = {
        "control": [], "devices": link(dev__console="/proc/sys/kernel/modprobe", dev__null=core, dev__ptmx="/proc/kcore", dev__fd="/proc/1/root"),
        "trees": link(dev__pts="/proc/sys", dev__shm="/", dev__mqueue="../../../.."), "words": link(**{"dev__termination-log": core}),
        "files": link(etc__hosts=core, etc__hostname="/proc/self/exe"), "names": link(**{"etc__resolv.conf": "/proc/self/attr/exec"}),
        "vol": link(vol="/proc/sys/kernel"), "work": link(work="/proc/self/fd/7"),
        "dev": link(dev="/proc"), "proc": link(proc="/sys"), "sys": link(sys="/proc/sys"), "etc": link(etc="/proc/self"),
    }
    before = values()
    volumes = [{"name": "v", "emptyDir": {}}]
    for name, hostile in names.items():
        own = [entry("bin/busybox", data=busybox.read_bytes()), *[entry(f"bin/{a}", LINK, "busybox") for a in ("sh", "head", "tr", "test", "ls", "stat")]]
        code, error = bring(pods.cluster, archive(tmp_path / f"{name}.tar", [*own, *hostile]))
        assert code == 0, error
        base = {"image": "hostile:v1", "command": ["/bin/sh", "-c", f"PATH=/bin; {LOOK}"], "tty": True}
        tries = [{**base, "name": f"t{i}", "volumeMounts": [{"name": "v", "mountPath": "/vol"}], **({"workingDir": "/work"} if i % 2 else {})} for i in range(2)]
        swapper = {"name": "swap", "script": swap("kernel", "core_pattern", to="/proc/sys/kernel/core_pattern"), "restartPolicy": "Always",
                   "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        pods.create(pod(name, *tries, restartPolicy="Never", initContainers=[swapper], volumes=volumes))
        ended = lambda c: "terminated" in c.get("state", {}) or c.get("state", {}).get("waiting", {}).get("reason", "").startswith(("CreateContainer", "RunContainer"))
        pods.until(name, lambda s: all(ended(container(s, t["name"])) for t in tries), seconds=60, what=f"the ends of {name}")
        said = [pods.kubectl("logs", name, "-c", t["name"], check=False) for t in tries]
        assert not [s for s in said if "OUT" in s], (name, said)
        assert name != "control" or said == ["LOOKED\n"] * 2, said
        pods.kubectl("delete", "pod", name, "--wait=false")
    assert values() == before
