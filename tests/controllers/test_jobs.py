"""Jobs run to completion, each pod counted once; cron jobs fire on their minute."""

import json
import time

from conftest import until


def job(name, script, restart="Never", **spec):
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            **spec,
            "template": {
                "spec": {
                    "restartPolicy": restart, "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", script], "resources": {"requests": {"cpu": "10m"}},
                    }],
                },
            },
        },
    }


def test_a_job_completes_and_shows_how(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply(job("three", "echo done", completions=3, parallelism=2), "-n", namespace)
    k("wait", "--for=condition=Complete", "job/three", "--timeout=60s")
    status = cluster.json("-n", namespace, "get", "job", "three")["status"]
    assert status["succeeded"] == 3 and "active" not in status and status["completionTime"]
    assert status["uncountedTerminatedPods"] == {} and (status["ready"], status["terminating"]) == (0, 0)
    assert [c["type"] for c in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    pods = cluster.json("-n", namespace, "get", "pods", "-l", "job-name=three")["items"]
    assert len(pods) == 3 and not any(p["metadata"].get("finalizers") for p in pods), "all are counted and let go"
    assert "3/3" in k("get", "job", "three") and "Complete" in k("get", "job", "three")
    until(lambda: "SuccessfulCreate" in (told := k("describe", "job", "three")) and "Completed" in told, what="its events")
    assert k("logs", "job/three").strip() == "done"
    k("delete", "job", "three", "--timeout=30s")
    until(lambda: not cluster.json("-n", namespace, "get", "pods", "-l", "job-name=three")["items"], what="its pods to go")


def test_indexed_pods_know_their_index_and_a_retry_comes_after_a_failure(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    script = 'echo "$JOB_COMPLETION_INDEX on $(hostname)"; [ "$JOB_COMPLETION_INDEX" != 1 ]'
    cluster.apply(job("indexed", script, completions=3, parallelism=3, completionMode="Indexed",
                      backoffLimitPerIndex=0), "-n", namespace)
    k("wait", "--for=condition=Failed", "job/indexed", "--timeout=60s")
    status = cluster.json("-n", namespace, "get", "job", "indexed")["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1")
    assert (status["succeeded"], status["failed"]) == (2, 1)
    assert [c["reason"] for c in status["conditions"]] == ["FailedIndexes", "FailedIndexes"]
    logs = k("logs", "-l", "batch.kubernetes.io/job-name=indexed", "--prefix=false")
    assert sorted(logs.split("\n"))[-3:] == ["0 on indexed-0", "1 on indexed-1", "2 on indexed-2"]


def test_a_job_that_always_fails_stops_at_its_limit_and_one_that_is_over_goes(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply(job("bad", "exit 3", backoffLimit=0, ttlSecondsAfterFinished=2), "-n", namespace)
    k("wait", "--for=condition=Failed", "job/bad", "--timeout=60s")
    # Its end is told even where the job itself is soon gone.
    told = lambda: k("get", "events", "--field-selector=reason=BackoffLimitExceeded", "-o", "name").strip()
    until(told, what="an event about the limit")
    k("wait", "--for=delete", "job/bad", "--timeout=30s")


def test_a_pod_that_is_deleted_is_replaced_when_it_has_ended_and_an_eviction_may_be_ignored(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
    cluster.apply(job("long", "trap 'exit 9' TERM; while true; do sleep 0.1; done", completions=1, backoffLimit=1,
                      podReplacementPolicy="Failed", podFailurePolicy=policy), "-n", namespace)
    status = lambda: cluster.json("-n", namespace, "get", "job", "long")["status"]
    live = lambda: [
        p["metadata"]["name"] for p in cluster.json("-n", namespace, "get", "pods", "-l", "job-name=long")["items"]
        if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]
    ]
    first, = until(live, what="the first pod")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": first, "namespace": namespace}}
    k("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{first}/eviction", "-f", "-", input=json.dumps(eviction))
    second, = until(lambda: [p for p in live() if p != first], what="the pod that takes its place")
    assert "failed" not in status(), "an eviction counts for nothing here"
    k("delete", "pod", second, "--wait=false")
    until(lambda: status().get("failed") == 1, what="the deletion to count as a failure")
    k("wait", "--for=delete", f"pod/{second}", "--timeout=30s")
    k("delete", "job", "long", "--timeout=30s")


def test_a_suspended_job_runs_when_it_is_let(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply(job("later", "true", suspend=True), "-n", namespace)
    k("wait", "--for=condition=Suspended", "job/later", "--timeout=30s")
    assert not cluster.json("-n", namespace, "get", "pods")["items"]
    k("patch", "job", "later", "--type=merge", "-p", json.dumps({"spec": {"suspend": False}}))
    k("wait", "--for=condition=Complete", "job/later", "--timeout=60s")


def test_a_cron_job_fires_on_the_minute_and_by_hand(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    template = job("x", "date")["spec"]
    cron = {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
        "spec": {"schedule": "* * * * *", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": template}},
    }
    cluster.apply(cron, "-n", namespace)
    k("create", "job", "by-hand", "--from=cronjob/tick")
    k("wait", "--for=condition=Complete", "job/by-hand", "--timeout=60s")
    status = until(
        lambda: (s := cluster.json("-n", namespace, "get", "cronjob", "tick").get("status", {})).get("lastSuccessfulTime")
        and s.get("lastScheduleTime") and s,
        seconds=90, what="the next minute's job to succeed",
    )
    minute = int(time.time()) // 60
    names = [j["metadata"]["name"] for j in cluster.json("-n", namespace, "get", "jobs")["items"]]
    assert {f"tick-{m}" for m in (minute, minute - 1)} & set(names), (names, minute)
    assert status["lastScheduleTime"].endswith(":00Z")
    assert "SuccessfulCreate" in k("describe", "cronjob", "tick")
    k("delete", "cronjob", "tick", "--timeout=30s")
