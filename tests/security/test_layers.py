"""Layers made to hurt the machine that unpacks them: each is brought by `stoa image import`, as any stranger's image might be
(containerd CVE-2022-23648 and its kin)."""

import gzip
import hashlib
import io
import json
import pathlib
import platform
import subprocess
import sys
import tarfile

import pytest
from conftest import STOA

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "node"))
from pods import container, pod, pods  # noqa: E402,F401

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def entry(name, kind=tarfile.REGTYPE, link="", data=b"", **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), 0o755
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive(path, *layers):
    """A `docker save` archive whose layers hold these entries, or are these bytes."""
    tars = []
    for layer in layers:
        if isinstance(layer, bytes):
            tars.append((layer, hashlib.sha256(gzip.decompress(layer)).hexdigest()))
            continue
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for info, data in layer:
                tar.addfile(info, io.BytesIO(data))
        tars.append((out.getvalue(), hashlib.sha256(out.getvalue()).hexdigest()))
    config = json.dumps({"architecture": MACHINE, "os": "linux", "config": {"Cmd": ["/bin/busybox", "sleep", "1000"]},
                         "rootfs": {"type": "layers", "diff_ids": [f"sha256:{d}" for _, d in tars]}}).encode()
    files = {"config.json": config, **{f"{i}/layer.tar": t for i, (t, _) in enumerate(tars)}}
    files["manifest.json"] = json.dumps([{"Config": "config.json", "RepoTags": ["hostile:v1"],
                                          "Layers": [f"{i}/layer.tar" for i in range(len(tars))]}]).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            tar.addfile(*[entry(name, data=data)[0], io.BytesIO(data)])
    return path


def bring(cluster, path):
    done = subprocess.run([STOA, "image", "import", path, "--data-dir", cluster.data_dir], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
REFUSED = {
    "a path that climbs": [entry("../../evil-layer", data=b"x")],
    "a path that climbs from below": [entry("a/b/../../../evil-layer", data=b"x")],
    "a hard link out": [entry("evil", HARD, "../../../../etc/passwd")],
    "a hard link through a link": [entry("up", LINK, "/../../../.."), entry("evil", HARD, "up/etc/passwd")],
    "a whiteout that is a device of no name": [entry("x", tarfile.CHRTYPE, devmajor=0, devminor=0)],
    "a whiteout of nothing": [entry("d/.wh.", data=b"")],
    "a whiteout of what is above": [entry("d/.wh...", data=b"")],
    "an overlay's own mark": [entry("d", tarfile.DIRTYPE, pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"})],
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_layer_that_reaches_out_is_refused(cluster, tmp_path, what):
    before = set(cluster.data_dir.rglob("images/layers/*"))
    code, said = bring(cluster, archive(tmp_path / "hostile.tar", REFUSED[what]))
    assert code != 0 and "hostile" not in cluster.stoa("image", "list"), f"{what} was taken: {said}"
    assert not pathlib.Path("/evil-layer").exists() and not list(cluster.data_dir.rglob("evil*"))
    assert set(cluster.data_dir.rglob("images/layers/*")) == before, "a refused layer was kept"


def test_links_of_a_layer_lead_nowhere_but_into_it(cluster, pods, tmp_path):
    """Absolute and climbing links are what many images have: they are kept, and written through only inside the layer."""
    victim = tmp_path / "victim"
    victim.mkdir()
    busybox = (pathlib.Path(__file__).parent.parent.parent / ".stoa/images/busybox/bin/busybox").read_bytes()
    outward = [
        entry(str(victim).lstrip("/"), tarfile.DIRTYPE),
        entry("bin/busybox", data=busybox), entry("bin/sh", LINK, "busybox"), entry("out", LINK, str(victim)), entry("out/a", data=b"1"),
        entry("up", LINK, "../../../../../.." + str(victim)), entry("up/b", data=b"2"),
        entry("etc/passwd", LINK, str(victim / "passwd")), entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n"),
        # The agent's own files are mounted over these, and must not be found through them.
        entry("etc/hosts", LINK, str(victim / "hosts")), entry("dev/termination-log", LINK, str(victim / "words")),
    ]
    over = [entry("etc/.wh.hosts"), entry("etc/resolv.conf", LINK, "/../../.." + str(victim / "resolv"))]
    code, said = bring(cluster, archive(tmp_path / "links.tar", outward, over))
    assert code == 0, said
    pods.create(pod("links", {"name": "c0", "image": "hostile:v1", "script": "/bin/busybox sleep 1000"}))
    pods.ready("links")
    assert not list(victim.iterdir()), "something was written outside"
    assert "cluster.local" in pods.sh("links", "/bin/busybox cat /etc/resolv.conf")
    pods.kubectl("delete", "pod", "links", "--timeout=20s")
    cluster.stoa("image", "remove", "hostile:v1")


def test_a_device_in_a_layer_opens_nothing(cluster, pods, tmp_path):
    busybox = (pathlib.Path(__file__).parent.parent.parent / ".stoa/images/busybox/bin/busybox").read_bytes()
    node = pathlib.Path("/dev/vda").stat().st_rdev if pathlib.Path("/dev/vda").exists() else (8 << 8)
    layer = [entry("bin/busybox", data=busybox), entry("disk", tarfile.BLKTYPE, devmajor=node >> 8, devminor=node & 255),
             entry("mem", tarfile.CHRTYPE, devmajor=1, devminor=1)]
    code, said = bring(cluster, archive(tmp_path / "devices.tar", layer))
    if code != 0:
        return
    look = "for d in /disk /mem; do /bin/busybox head -c 1 $d >/dev/null 2>&1 && echo OPENED $d; done; echo LOOKED; /bin/busybox sleep 1000"
    pods.create(pod("devices", {"name": "c0", "image": "hostile:v1", "command": ["/bin/busybox", "sh", "-c", look]}))
    pods.ready("devices")
    pods.says("devices", "LOOKED\n")
    pods.kubectl("delete", "pod", "devices", "--timeout=20s")
    cluster.stoa("image", "remove", "hostile:v1")


def test_an_images_own_dev_proc_and_sys_mislead_nobody(cluster, pods, tmp_path):
    """CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: what masks a path, is a console or is written to while a container is made
    must be the kernel's own, whatever the image has in its place."""
    busybox = (pathlib.Path(__file__).parent.parent.parent / ".stoa/images/busybox/bin/busybox").read_bytes()
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()
    devices = [entry("bin/busybox", data=busybox), entry("dev", tarfile.DIRTYPE), entry("proc", tarfile.DIRTYPE),
               entry("dev/null", LINK, "/proc/sysrq-trigger"), entry("dev/console", LINK, "/proc/sys/kernel/core_pattern"),
               entry("dev/pts", LINK, "/proc/sys"), entry("dev/ptmx", LINK, "/proc/self/attr/current")]
    code, said = bring(cluster, archive(tmp_path / "devices.tar", devices))
    assert code == 0, said
    masked = next(f for f in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts") if pathlib.Path(f).exists())
    look = f"/bin/busybox tty; /bin/busybox ls -l /dev/null /dev/console; /bin/busybox wc -c {masked}; " \
           "echo evil > /proc/sys/kernel/core_pattern; /bin/busybox sleep 1000"
    pods.create(pod("devices", {"name": "c0", "image": "hostile:v1", "tty": True, "stdin": True, "command": ["/bin/busybox", "sh", "-c", look]}))
    pods.ready("devices")
    pods.until("devices", lambda s: "Read-only" in pods.logs("devices"), what="the last line of it")
    said = pods.logs("devices").replace("\r", "")
    assert said.startswith("/dev/pts/0\n") and " 1,   3 " in said and "crw" in said and f"0 {masked}" in said, said
    assert pathlib.Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    pods.kubectl("delete", "pod", "devices", "--timeout=20s")
    cluster.stoa("image", "remove", "hostile:v1")
    for name in ("proc", "sys", "dev"):
        layer = [entry("bin/busybox", data=busybox), entry("elsewhere", tarfile.DIRTYPE), entry(name, LINK, "/elsewhere")]
        code, said = bring(cluster, archive(tmp_path / "links.tar", layer))
        assert code == 0, said
        look = f"/bin/busybox ls -a /elsewhere; /bin/busybox grep ' /{name} ' /proc/mounts; /bin/busybox sleep 1000"
        pods.create(pod(name, {"name": "c0", "image": "hostile:v1", "command": ["/bin/busybox", "sh", "-c", look]}))
        # As an engine has it: such an image does not run.
        waiting = lambda s: container(s, "c0").get("state", {}).get("waiting", {})
        status = pods.until(name, lambda s: waiting(s).get("reason") in ("RunContainerError", "CreateContainerError"), what="the refusal")
        assert "rootfs" in waiting(status)["message"], status
        pods.kubectl("delete", "pod", name, "--timeout=20s")
        cluster.stoa("image", "remove", "hostile:v1")


def test_a_bomb_is_put_out_before_the_disk_is_full(cluster, tmp_path):
    """A small archive that unpacks to more than there is room for: refused by what it says, or by what it becomes."""
    huge = tarfile.TarInfo("zeros")
    huge.size = 200 << 30
    bomb = gzip.compress(huge.tobuf(tarfile.PAX_FORMAT) + bytes(64 << 20), 9)
    many = [entry("d" * 100 + "/" * 1 + "/".join("e" * 10 for _ in range(300)), data=b"x")]
    for layer in (bomb, many):
        code, said = bring(cluster, archive(tmp_path / "bomb.tar", layer))
        assert code != 0 and "hostile" not in cluster.stoa("image", "list"), said
