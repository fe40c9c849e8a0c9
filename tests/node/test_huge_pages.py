"""Huge pages: what the machine has set aside is told, given and bounded."""

import pathlib

import pytest

from conftest import Cluster, until
from pods import Pods, pod

PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


@pytest.fixture
def paged(tmp_path_factory):
    """A cluster on a machine with four huge pages; their number is put back."""
    before = PAGES.read_text()
    PAGES.write_text("4")
    if int(PAGES.read_text()) < 4:
        PAGES.write_text(before)
        pytest.skip("the machine has no room for huge pages")
    c = Cluster(tmp_path_factory.mktemp("stoa", numbered=True) / "own")
    try:
        c.images()
        c.start().wait_node()
        yield c
        c.down()
        assert not c.residue()
    finally:
        PAGES.write_text(before)


@pytest.mark.skipif(not PAGES.exists(), reason="this kernel has no huge pages of 2 MiB")
def test_huge_pages_are_capacity_and_a_volume(paged):
    node = paged.json("get", "nodes")["items"][0]["status"]
    assert node["capacity"]["hugepages-2Mi"] == node["allocatable"]["hugepages-2Mi"] == "8Mi"
    pods = Pods(paged, "default")
    limits = lambda n: {"resources": {"limits": {"hugepages-2Mi": n, "memory": "32Mi", "cpu": "100m"}}}
    script = "grep ' /huge ' /proc/mounts; sleep 1000"
    mount = {"volumeMounts": [{"name": "huge", "mountPath": "/huge"}]}
    pods.create(pod("fits", {"name": "c0", "script": script, **limits("4Mi"), **mount}, volumes=[{"name": "huge", "emptyDir": {"medium": "HugePages"}}]),
                pod("more", {"name": "c0", "script": "sleep 1000", **limits("6Mi")}),
                pod("forced", {"name": "c0", "script": "sleep 1000", **limits("6Mi")}, nodeName=paged.json("get", "nodes")["items"][0]["metadata"]["name"]))
    pods.ready("fits")
    assert pods.sh("fits", "stat -c %a /huge") == "755\n"
    until(lambda: "hugetlbfs" in (said := pods.logs("fits")) and "pagesize=2M" in said, what="the mount")
    status = pods.until("more", lambda s: s.get("conditions"), what="the scheduler's word")
    assert "Insufficient hugepages-2Mi" in str(status["conditions"])
    status = pods.phase("forced", "Failed")
    assert status["reason"] == "OutOfhugepages-2Mi", status
    pods.kubectl("delete", "pod", "fits", "more", "forced", "--timeout=30s")
    # A group of the pod's own may write there; nobody else but root.
    pods.create(pod("grouped", {"name": "c0", "script": "sleep 1000", **limits("4Mi"), **mount}, securityContext={"fsGroup": 77, "runAsUser": 7},
                    volumes=[{"name": "huge", "emptyDir": {"medium": "HugePages"}}]))
    pods.ready("grouped")
    assert pods.sh("grouped", "stat -c %a:%g /huge; touch /huge/x && stat -c %u:%g /huge/x") == "2775:77\n7:77\n"
    pods.kubectl("delete", "pod", "grouped", "--timeout=30s")
