"""Pods that a machine runs of its own accord, from a folder."""

import json
import pathlib
import shutil
import tempfile

import pytest

from conftest import Cluster, until
from pods import Pods, container, pod


@pytest.fixture
def folder():
    base = pathlib.Path(tempfile.mkdtemp(prefix="stoa-e2e-", dir="/var/tmp"))
    c = Cluster(base / "own")
    c.manifests = base / "manifests"
    c.manifests.mkdir()
    c.images()
    (c.manifests / "web.json").write_text(json.dumps(pod("web", "trap 'exit 0' TERM; echo one; sleep 1000 & wait", hostNetwork=True)))
    c.start("--static-pods", c.manifests).wait_node()
    yield c
    c.down()
    left = c.residue()
    shutil.rmtree(base, ignore_errors=True)
    assert not left, "the cluster left behind:\n" + "\n".join(left)


def test_a_pod_from_a_folder_has_a_mirror_and_obeys_only_its_file(folder):
    pods = Pods(folder, "default")
    node = folder.json("get", "nodes")["items"][0]["metadata"]["name"]
    name = f"web-{node}"
    until(lambda: pods.kubectl("get", "pod", name, "-o", "name", check=False), what="the mirror")
    pods.ready(name)
    mirror = pods.get(name)
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node"
    id_ = container(mirror["status"], "c0")["containerID"]
    pods.says(name, "one\n")
    assert pods.sh(name, "echo in") == "in\n"
    # Deleting the mirror deletes nothing but the mirror.
    pods.kubectl("delete", "pod", name, "--timeout=20s")
    until(lambda: container(pods.kubectl("get", "pod", name, check=False) and pods.status(name) or {}, "c0").get("containerID") == id_,
          what="another mirror of the same container")
    assert pods.get(name)["metadata"]["uid"] != mirror["metadata"]["uid"]
    # It outlives the cluster's process, and is the same one afterwards.
    folder.kill9()
    folder.start("--static-pods", folder.manifests).wait_node()
    until(lambda: container(pods.status(name), "c0").get("containerID") == id_, what="the same container")
    # Another edition of the file is another pod; no file is none.
    (folder.manifests / "web.json").write_text(json.dumps(pod("web", "echo two; sleep 1000", hostNetwork=True)))
    until(lambda: pods.kubectl("logs", name, check=False) == "two\n", what="the new edition")
    (folder.manifests / "web.json").unlink()
    until(lambda: not pods.kubectl("get", "pod", name, check=False, stderr=False), what="the mirror to go")
    until(lambda: not any("shim" in p for p in folder.processes()), what="its container to end")
