"""A job counts each of its pods exactly once, however often the process that counts them is killed."""

from conftest import until

COMPLETIONS = 12


def test_each_pod_is_counted_once_through_kill_9(own_cluster):
    c = own_cluster
    c.apply({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "count"},
        "spec": {
            "completions": COMPLETIONS, "parallelism": 3,
            "template": {"spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", "sleep 1"], "resources": {"requests": {"cpu": "10m"}},
                }],
            }},
        },
    })
    status = lambda: c.json("get", "job", "count").get("status", {})
    for counted in (2, 5, 8):
        until(lambda: status().get("succeeded", 0) >= counted, what=f"{counted} pods to be counted")
        c.kill9()
        c.start().wait_node()
    c.kubectl("wait", "--for=condition=Complete", "job/count", "--timeout=90s")
    pods = c.json("get", "pods", "-l", "job-name=count")["items"]
    succeeded = [p for p in pods if p["status"]["phase"] == "Succeeded"]
    # A pod whose helper was starting while its agent was killed may have failed; it is counted as that.
    assert status()["succeeded"] == len(succeeded) == COMPLETIONS, status()
    assert status().get("failed", 0) == len(pods) - COMPLETIONS
    assert not any(p["metadata"].get("finalizers") for p in pods)
    c.kubectl("delete", "job", "count", "--timeout=60s")
