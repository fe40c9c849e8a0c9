"""Requests whose answers are known go to our own server over the wire: those a stock server was recorded with, and our own."""

import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "conformance"))
import replay  # noqa: E402

RECORDED = ROOT / "crates/kube/testdata/exchanges.jsonl"
OWN = ROOT / "conformance/kubernetes.jsonl"

# Answers that cannot agree, and why.
OTHERWISE = {
    "custom resource, defaulting and pruning": "custom resources are not served yet",
    "custom resource, rule violated": "custom resources are not served yet",
    "custom resource, schema violated": "custom resources are not served yet",
    "custom resource, minimum violated": "custom resources are not served yet",
    "custom resource, strict unknown field": "custom resources are not served yet",
    "self subject rules review": "the recorded user was another",
}


def report(differences):
    return "\n".join("\n".join([f"--- {name}", *lines]) for name, lines in differences.items())


@pytest.fixture
def server(cluster):
    return replay.Server(cluster.data_dir / "kubeconfig")


def test_our_own_cases_are_answered_as_written(server, cluster):
    cluster.kubectl("create", "namespace", "cases")
    try:
        agreed, differences = replay.replay([OWN], server)
        assert not differences, report(differences)
        assert agreed >= 100
    finally:
        cluster.kubectl("delete", "namespace", "cases", "--timeout=60s")
        cluster.kubectl("delete", "priorityclass,storageclass,ingressclass,runtimeclass,pv,clusterrole", "-l", "made-by=cases")
