"""Files that the agent writes or reads for a container, while the container does its worst with them."""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "node"))
from conftest import KUBECTL, until  # noqa: E402
from pods import container, pod, pods  # noqa: E402,F401

SHARED = {"volumes": [{"name": "v", "emptyDir": {}}]}
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}


def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text("the machine's own")
    return file


def test_last_words_are_read_from_no_link(pods, tmp_path):
    """A link where the termination log should be, in the image or in a volume, shows nothing of the machine (audit of 2019)."""
    hidden = secret(tmp_path)
    swap = f"rm -f /dev/termination-log; ln -s {hidden} /dev/termination-log; echo own > /tmp/x; exit 1"
    in_volume = {"name": "c0", "script": "exit 1", "terminationMessagePath": "/v/link", **MOUNT}
    pods.create(pod("swap", swap, restartPolicy="Never"),
                pod("volume", in_volume, restartPolicy="Never", **SHARED,
                    initContainers=[{"name": "i", "script": f"ln -s {hidden} /v/link", **MOUNT}]))
    for name in ("swap", "volume"):
        status = pods.until(name, lambda s: s.get("phase") == "Failed" or container(s, "c0").get("state", {}).get("waiting", {}).get("reason", "").startswith("Create"))
        assert "machine" not in str(status["containerStatuses"]), status
    assert hidden.read_text() == "the machine's own"


def test_a_log_holds_what_was_written_and_nothing_else(pods, tmp_path):
    """A container neither sees the file of its log nor puts another in its place; forged lines stay its own lines."""
    hidden = secret(tmp_path)
    forged = "2020-01-01T00:00:00Z stderr F forged"
    pods.create(pod("logs", f"echo '{forged}'; ls -l /proc/1/fd/1; ln -sf {hidden} /proc/1/fd/1 2>&1 | head -1; sleep 1000"))
    pods.ready("logs")
    said = until(lambda: "pipe:" in (log := pods.logs("logs")) and log, what="what the container sees of its log")
    assert said.startswith(forged) and "machine" not in said
    uid = pods.get("logs")["metadata"]["uid"]
    files = [p for p in pods.cluster.data_dir.rglob("*.log") if uid in str(p)]
    assert files and all(not p.is_symlink() and p.stat().st_mode & 0o007 == 0 for p in files), files


def test_cp_out_of_a_container_stays_where_it_was_sent(pods, tmp_path):
    """CVE-2019-11249 and its kin: the container's own tar answers with names that climb."""
    evil = ("import-less tar", "cd /v && mkdir -p d && echo x > d/f && printf '%s' '#!/bin/sh\ncat /v/evil.tar' > /v/tar && chmod +x /v/tar; sleep 1000")
    pods.create(pod("cp", {"name": "c0", "script": evil[1], "env": [{"name": "PATH", "value": "/v:/bin:/usr/bin"}], **MOUNT}, **SHARED))
    pods.ready("cp")
    import io
    import tarfile
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("d/../../escaped", "/escaped", "d/f"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
        link = tarfile.TarInfo("d/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        tar.addfile(link)
        # What a link was made for a moment ago must not be written through.
        through = tarfile.TarInfo("d/link/escaped")
        through.size = 1
        tar.addfile(through, io.BytesIO(b"x"))
    subprocess.run([str(KUBECTL), "-n", pods.namespace, "exec", "-i", "cp", "--", "sh", "-c", "cat > /v/evil.tar"],
                   input=out.getvalue(), env=pods.cluster.env, check=True)
    target = tmp_path / "in" / "target"
    target.parent.mkdir()
    pods.kubectl("cp", "cp:/v/d", str(target), check=False)
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
    assert all(f == "in" or f.startswith("in/target") for f in found), found
    assert not os.path.lexists("/escaped")


def test_files_of_a_pod_do_not_fill_the_machine(pods):
    """CVE-2020-8557: `/etc/hosts` grows with a container's writes and counts as its own disk."""
    limited = {"name": "c0", "script": "head -c 20m /dev/zero >> /etc/hosts; sleep 1000",
               "resources": {"limits": {"ephemeral-storage": "8Mi"}}}
    pods.create(pod("hosts", limited))
    status = pods.until("hosts", lambda s: s.get("reason") == "Evicted", seconds=40, what="the eviction")
    assert "ephemeral" in status["message"], status
