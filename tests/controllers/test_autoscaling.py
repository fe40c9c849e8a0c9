"""An autoscaler gives a workload that is busy more pods, and says what it goes by."""

import json

from conftest import until

BUSY = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"}, "spec": {
    "replicas": 1, "selector": {"matchLabels": {"app": "busy"}}, "template": {"metadata": {"labels": {"app": "busy"}}, "spec": {
        "terminationGracePeriodSeconds": 0, "containers": [{
            "name": "c", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "while :; do :; done"],
            "resources": {"requests": {"cpu": "10m"}, "limits": {"cpu": "50m"}}}]}}}}


def test_a_busy_workload_grows_and_its_autoscaler_says_why(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    c.apply(BUSY, *n)
    c.kubectl(*n, "autoscale", "deployment", "busy", "--min=1", "--max=3", "--cpu=50%")
    hpa = lambda: c.json(*n, "get", "hpa", "busy")
    condition = lambda kind: next(x for x in hpa()["status"]["conditions"] if x["type"] == kind)
    events = lambda: {e["reason"]: e["message"] for e in c.json(*n, "get", "events")["items"] if e["involvedObject"]["kind"] == "HorizontalPodAutoscaler"}
    until(lambda: c.json(*n, "get", "deployment", "busy")["status"].get("readyReplicas", 0) == 3, seconds=150, what="three pods", pause=0.5)
    assert events()["SuccessfulRescale"] == "New size: 3; reason: cpu resource utilization (percentage of request) above target"
    # The next look finds it at its limit.
    until(lambda: condition("ScalingLimited")["reason"] == "TooManyReplicas", seconds=60, what="its limit", pause=0.5)
    until(lambda: condition("AbleToScale")["reason"] in ("ReadyForNewScale", "ScaleDownStabilized"), seconds=60, what="a look after it grew", pause=0.5)
    assert condition("ScalingActive")["reason"] == "ValidMetricFound"
    status = hpa()["status"]
    assert status["desiredReplicas"] == 3 and status["lastScaleTime"]
    assert status["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 50
    row = c.kubectl(*n, "get", "hpa", "busy", "--no-headers").split()
    # NAME REFERENCE TARGETS MINPODS MAXPODS REPLICAS AGE
    assert row[:3] == ["busy", "Deployment/busy", "cpu:"] and row[3].endswith("%/50%") and "unknown" not in row[3], row
    assert row[4:7] == ["1", "3", "3"], row


def test_an_autoscaler_that_cannot_work_says_why(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    c.apply({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "lost"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nowhere"}, "maxReplicas": 3}}, *n)
    found = lambda: c.json(*n, "get", "hpa", "lost")["status"].get("conditions", [])
    until(found, seconds=60, what="its first look", pause=0.5)
    assert [(x["type"], x["status"], x["reason"], x["message"]) for x in found()] == [
        ("AbleToScale", "False", "FailedGetScale",
         "the HPA controller was unable to get the target's current scale: deployments.apps \"nowhere\" not found")]
    shown = c.kubectl(*n, "get", "hpa", "lost", "-o", "json")
    assert json.loads(shown)["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
