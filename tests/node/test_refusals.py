"""What a node does not take, and says so."""

import os

from conftest import until
from pods import container, pod, pods


def waiting(status, name="c0"):
    return container(status, name).get("state", {}).get("waiting", {})


def test_unsafe_kernel_parameters_are_refused_and_safe_ones_set(pods):
    sysctl = lambda name, value: {"securityContext": {"sysctls": [{"name": name, "value": value}]}}
    pods.create(pod("unsafe", "sleep 1", **sysctl("kernel.msgmax", "65536")),
                pod("safe", "cat /proc/sys/kernel/shm_rmid_forced", restartPolicy="Never", **sysctl("kernel.shm_rmid_forced", "1")))
    status = pods.phase("unsafe", "Failed")
    assert (status["reason"], status["message"]) == ("SysctlForbidden", 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted')
    assert "containerStatuses" not in status and "SysctlForbidden" in pods.kubectl("get", "pod", "unsafe")
    assert "SysctlForbidden" in pods.reasons("unsafe")
    pods.phase("safe", "Succeeded")
    assert pods.logs("safe") == "1\n"


def test_a_pod_bound_past_the_scheduler_is_refused_where_it_does_not_belong(pods):
    node = pods.cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    colour = f"colour-{pods.namespace[-12:]}"
    terms = lambda values: {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": colour, "operator": "NotIn", "values": values}]}]}}}
    pods.create(pod("before", "sleep 1000", nodeName=node, nodeSelector={colour: "green"}))
    status = pods.phase("before", "Failed")
    assert (status["reason"], status["message"]) == ("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
    assert "NodeAffinity" in pods.kubectl("get", "pod", "before")
    assert ("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector") in pods.events("before")
    try:
        # A label counts at once, also for a pod that comes right after it.
        pods.kubectl("label", "node", node, f"{colour}=green")
        pods.create(pod("after", "sleep 1000", nodeName=node, nodeSelector={colour: "green"}),
                    pod("unlike", "sleep 1000", nodeName=node, affinity=terms(["green"])))
        pods.ready("after")
        assert pods.phase("unlike", "Failed")["reason"] == "NodeAffinity"
    finally:
        pods.kubectl("label", "node", node, f"{colour}-")
    # Whoever runs already stays: affinity is judged when a pod comes.
    assert pods.status("after")["phase"] == "Running"


def test_root_is_refused_where_forbidden(pods):
    non_root = {"runAsNonRoot": True}
    pods.create(pod("asked", {"name": "c0", "script": "sleep 1", "securityContext": {**non_root, "runAsUser": 0}}),
                pod("image", {"name": "c0", "script": "sleep 1", "securityContext": non_root}),
                pod("fine", {"name": "c0", "script": "id -u; sleep 1000", "securityContext": {**non_root, "runAsUser": 1000}}))
    for name, words in [("asked", "runAsUser breaks non-root policy"), ("image", "image will run as root")]:
        status = pods.until(name, lambda s: waiting(s).get("reason") == "CreateContainerConfigError", what="the refusal")
        assert words in waiting(status)["message"]
    pods.ready("fine")
    user = container(pods.status("fine"), "c0")["user"]["linux"]
    assert (user["uid"], user["gid"]) == (1000, 0)


def test_apparmor_is_refused_where_the_kernel_has_none(pods):
    profile = {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    pods.create(pod("armed", "sleep 1000", **profile))
    if os.path.exists("/sys/module/apparmor/parameters/enabled"):
        return pods.ready("armed")
    status = pods.phase("armed", "Failed")
    assert status["reason"] == "AppArmor"


def test_a_runtime_that_the_node_does_not_have_is_refused(pods):
    classes = {"plain": "runc", "strange": "no-such-handler"}
    for name, handler in classes.items():
        pods.cluster.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": f"{name}-{pods.namespace[-12:]}"}, "handler": handler})
        pods.create(pod(name, "sleep 1000", runtimeClassName=f"{name}-{pods.namespace[-12:]}"))
    pods.ready("plain")
    word = 'no runtime for "no-such-handler" is configured'
    until(lambda: any(r == "FailedCreatePodSandBox" and word in m for r, m in pods.events("strange")), what="the refusal")
    assert pods.status("strange")["phase"] == "Pending"
    for name in classes:
        pods.kubectl("delete", "runtimeclass", f"{name}-{pods.namespace[-12:]}")
