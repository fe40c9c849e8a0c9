"""Resources change while a pod runs."""

import json

from conftest import until
from pods import condition, container, pod, pods

READ = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max"


def resources(cpu, memory):
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def resize(pods, name, *containers):
    patch = {"spec": {"containers": [{"name": n, "resources": r} for n, r in containers]}}
    return pods.kubectl("patch", "pod", name, "--subresource=resize", "-p", json.dumps(patch))


def test_a_running_pod_grows_and_shrinks_in_place(pods):
    restart = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    pods.create(pod("r", {"name": "a", "script": "sleep 1000", "resources": resources("100m", "32Mi")},
                    {"name": "b", "script": "trap 'exit 0' TERM; sleep 1000 & wait", "resources": resources("100m", "32Mi"), "resizePolicy": restart}))
    pods.ready("r")
    resize(pods, "r", ("a", resources("200m", "64Mi")))
    status = pods.until("r", lambda s: container(s, "a").get("resources", {}).get("limits", {}).get("memory") == "64Mi",
                        what="the new size")
    assert container(status, "a")["restartCount"] == 0
    assert container(status, "a")["allocatedResources"] == {"cpu": "200m", "memory": "64Mi"}
    assert pods.sh("r", READ, "a").split()[:2] == ["67108864", "20000"]
    assert not condition(status, "PodResizeInProgress") and not condition(status, "PodResizePending")
    resize(pods, "r", ("a", resources("100m", "48Mi")), ("b", resources("100m", "64Mi")))
    status = pods.until("r", lambda s: container(s, "b").get("restartCount") == 1 and container(s, "b").get("ready"), what="b anew")
    assert pods.sh("r", READ, "a").split()[:2] == ["50331648", "10000"]
    assert pods.sh("r", READ, "b").split()[0] == "67108864"
    assert container(status, "a")["restartCount"] == 0
    generation = f'"generation":{pods.get("r")["metadata"]["generation"]}'
    for reason in ("ResizeStarted", "ResizeCompleted"):
        until(lambda: any(r == reason and generation in m for r, m in pods.events("r")), what=reason)
    got = pods.get("r")
    assert got["status"]["observedGeneration"] == got["metadata"]["generation"]


def test_more_than_the_node_has_is_pending_until_it_is_taken_back(pods):
    pods.create(pod("r", {"name": "a", "script": "sleep 1000", "resources": resources("100m", "32Mi")}))
    pods.create(pod("s", {"name": "a", "script": "sleep 1000", "resources": resources("100m", "32Mi")}))
    pods.ready("r")
    pods.ready("s")
    wish = {"spec": {"containers": [{"name": "a", "resources": resources("100", "32Mi")}]}}
    refused = pods.kubectl("patch", "pod", "r", "--subresource=resize", "-p", json.dumps(wish), check=False, stderr=True)
    assert "node didn't have enough allocatable resources: cpu, requested: 100000, allocatable: " in refused
    # All of the node, of which another pod has a part.
    cpu = pods.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.allocatable.cpu}").strip()
    resize(pods, "r", ("a", resources(cpu, "32Mi")))
    status = pods.until("r", lambda s: condition(s, "PodResizePending"), what="a verdict")
    pending = condition(status, "PodResizePending")
    assert pending["reason"] == "Deferred" and "cpu" in pending["message"]
    assert container(status, "a")["allocatedResources"]["cpu"] == "100m"
    assert pods.sh("r", READ, "a").split()[1] == "10000"
    resize(pods, "r", ("a", resources("150m", "32Mi")))
    pods.until("r", lambda s: not condition(s, "PodResizePending") and container(s, "a")["resources"]["limits"]["cpu"] == "150m",
               what="the smaller wish")


def test_what_a_pod_names_for_itself_changes_in_place(pods):
    pods.create(pod("r", {"name": "a", "script": "sleep 1000"}, resources=resources("200m", "64Mi")))
    pods.ready("r")
    assert pods.sh("r", READ, "a").split()[:2] == ["67108864", "20000"]
    more = {"spec": {"resources": resources("300m", "128Mi")}}
    pods.kubectl("patch", "pod", "r", "--subresource=resize", "-p", json.dumps(more))
    status = pods.until("r", lambda s: s.get("resources") == more["spec"]["resources"], what="the new size")
    assert status["allocatedResources"] == {"cpu": "300m", "memory": "128Mi"}
    assert pods.sh("r", READ, "a").split()[:2] == ["134217728", "30000"]
    assert container(status, "a")["restartCount"] == 0 and not condition(status, "PodResizeInProgress")
    less = {"spec": {"resources": {"limits": {"cpu": None}}}}
    refused = pods.kubectl("patch", "pod", "r", "--subresource=resize", "-p", json.dumps(less), check=False, stderr=True)
    assert "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed" in refused
