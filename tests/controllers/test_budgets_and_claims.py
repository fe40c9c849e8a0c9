"""Budgets hold against evictions and drains, claims go when nobody uses them, quotas tell what is used."""

import json
import subprocess

from conftest import until

PAUSE = ["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.2; done"]


def deployment(name, replicas):
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": PAUSE}],
                },
            },
        },
    }


def test_a_budget_refuses_the_drain_that_would_break_it(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply(deployment("web", 2), "-n", namespace)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=2")
    status = until(
        lambda: (s := cluster.json("-n", namespace, "get", "pdb", "web")["status"]).get("currentHealthy") == 2 and s,
        what="the budget to see both pods",
    )
    assert (status["disruptionsAllowed"], status["desiredHealthy"], status["expectedPods"]) == (0, 2, 2)
    assert status["conditions"][0]["reason"] == "InsufficientPods"

    node = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    drain = ["drain", node, "--pod-selector=app=web", "--ignore-daemonsets", "--delete-emptydir-data"]
    try:
        refused = cluster.popen(*drain, "--timeout=4s", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = refused.communicate(timeout=60)
        assert refused.returncode != 0 and "Cannot evict pod as it would violate the pod's disruption budget" in out
        k("patch", "pdb", "web", "--type=merge", "-p", json.dumps({"spec": {"minAvailable": 0}}))
        until(
            lambda: cluster.json("-n", namespace, "get", "pdb", "web")["status"]["disruptionsAllowed"] == 2,
            what="the budget to allow two",
        )
        assert "evicted" in cluster.kubectl(*drain, "--timeout=30s")
    finally:
        cluster.kubectl("uncordon", node)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("delete", "deployment", "web", "--timeout=60s")


def test_a_claim_goes_when_the_last_pod_that_uses_it_has_gone(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    node = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    for name in ("unused", "used"):
        cluster.apply({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
                     "resources": {"requests": {"storage": "1Mi"}}},
        }, "-n", namespace)
    claim = lambda: cluster.json("-n", namespace, "get", "pvc", "used")["metadata"]
    assert claim()["finalizers"] == ["kubernetes.io/pvc-protection"]
    k("delete", "pvc", "unused", "--timeout=20s")
    # Bound by hand, so that it counts as a user although no volume is there to start it with.
    cluster.apply({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": PAUSE}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}],
        },
    }, "-n", namespace)
    k("delete", "pvc", "used", "--wait=false")
    k("annotate", "pvc", "used", "looked=at")
    assert claim()["deletionTimestamp"] and claim()["finalizers"]
    k("delete", "pod", "user", "--timeout=30s")
    k("wait", "--for=delete", "pvc/used", "--timeout=30s")


def test_a_claim_gets_the_volume_that_is_enough_for_it(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    name = f"pv-{namespace}"
    cluster.apply({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": namespace, "capacity": {"storage": "2Mi"},
                 "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": f"/tmp/{name}"}},
    })
    k("wait", "--for=jsonpath={.status.phase}=Available", f"pv/{name}", "--timeout=30s")
    cluster.apply({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": namespace,
                 "resources": {"requests": {"storage": "1Mi"}}},
    }, "-n", namespace)
    k("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", "--timeout=30s")
    assert cluster.json("-n", namespace, "get", "pvc", "data")["spec"]["volumeName"] == name
    volume = cluster.json("get", "pv", name)
    assert volume["status"]["phase"] == "Bound" and volume["spec"]["claimRef"]["name"] == "data"
    # In use it stays.
    k("delete", "pv", name, "--wait=false")
    k("delete", "pvc", "data", "--timeout=30s")
    k("wait", "--for=delete", f"pv/{name}", "--timeout=30s")


def test_a_quota_tells_what_is_used(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "quota", "q", "--hard=pods=3,requests.cpu=1,configmaps=5")
    used = lambda: cluster.json("-n", namespace, "get", "quota", "q").get("status", {}).get("used", {})
    until(lambda: used().get("pods") == "0", what="the first count")
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                            "command": ["true"], "resources": {"requests": {"cpu": "100m"}}}],
        },
    }
    k("create", "configmap", "one")
    before = used().get("configmaps")
    cluster.apply(pod, "-n", namespace)
    k("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/p", "--timeout=60s")
    # A pod that has ended costs nothing any more.
    until(lambda: (used().get("pods"), used().get("requests.cpu")) == ("0", "0"), what="the count after the end")
    until(lambda: used().get("configmaps") == "2", what=f"the config maps to be counted, {before} before")
    assert cluster.json("-n", namespace, "get", "quota", "q")["status"]["hard"]["pods"] == "3"
