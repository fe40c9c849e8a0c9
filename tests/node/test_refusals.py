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
    pods.told("unsafe", "SysctlForbidden")
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
    refusal = ("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
    until(lambda: refusal in pods.events("before"), what="the refusal's event")
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


def test_a_pod_bound_past_the_scheduler_is_told_what_the_node_lacks(pods):
    node = pods.cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    port = {"ports": [{"containerPort": 80, "hostPort": 31999}]}
    pods.create(pod("first", {"name": "c0", "script": "sleep 1000", **port}))
    pods.ready("first")
    stuff = {"resources": {"requests": {"ephemeral-storage": "1Pi"}}}
    pods.create(pod("second", {"name": "c0", "script": "sleep 1000", **port}, nodeName=node),
                pod("foreign", "sleep 1000", nodeName=node, metadata={"labels": {"kubernetes.io/os": "windows"}}),
                pod("large", {"name": "c0", "script": "sleep 1000", **stuff}, nodeName=node))
    for name, reason, words in [
        ("second", "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"),
        ("foreign", "PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"),
        ("large", "OutOfephemeral-storage", "Node didn't have enough resource: ephemeral-storage, requested: 1125899906842624, used: 0"),
    ]:
        status = pods.phase(name, "Failed")
        assert status["reason"] == reason and status["message"].startswith(f"Pod was rejected: {words}"), status
        pods.told(name, reason)


def test_a_pod_bound_past_a_taint_is_refused_unless_it_tolerates_it(pods):
    node = pods.cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    key = f"out-{pods.namespace[-12:]}".strip("-")
    tolerations = [{"key": key, "operator": "Exists"}]
    refusal = ("TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")
    # Who drives pods out that a taint meets may be quicker than the node: the object stays until all was seen.
    unlike = pod("unlike", "sleep 1000", nodeName=node, metadata={"finalizers": ["stoa.dev/story"]})
    pods.create(pod("before", "sleep 1000", tolerations=tolerations))
    pods.ready("before")
    try:
        pods.kubectl("taint", "node", node, f"{key}=of-order:NoExecute")
        pods.create(unlike, pod("alike", "sleep 1000", nodeName=node, tolerations=tolerations))
        pods.ready("alike")
        until(lambda: refusal in pods.events("unlike"), what="the refusal")
    finally:
        pods.kubectl("taint", "node", node, f"{key}-")
        pods.kubectl("patch", "pod", "unlike", "-p", '{"metadata": {"finalizers": null}}', check=False)
    assert pods.status("before")["phase"] == "Running"


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


def test_a_pod_bound_past_the_scheduler_does_not_run_without_the_devices_that_it_claims(pods):
    node = pods.cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    claims = {"named": {"resourceClaimName": "mine"}, "made": {"resourceClaimTemplateName": "ours"}}
    for name, source in claims.items():
        pods.create(pod(name, "sleep 1000", nodeName=node, resourceClaims=[{"name": "gpu", **source}]))
    head = "Failed to prepare dynamic resources: prepare dynamic resources: "
    told = lambda name, words: until(
        lambda: ("FailedPrepareDynamicResources", head + words) in pods.events(name), what=f"{name}: {words}")
    told("named", 'fetch ResourceClaim mine: resourceclaims.resource.k8s.io "mine" not found')
    told("made", f"Pod {pods.namespace}/made: ResourceClaim not created yet")
    claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "mine"},
             "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}}
    pods.create(claim)
    uid = lambda kind, name: pods.cluster.json("-n", pods.namespace, "get", kind, name)["metadata"]["uid"]
    told("named", f"pod named ({uid('pod', 'named')}) is not allowed to use ResourceClaim mine ({uid('resourceclaim', 'mine')})")
    for name in claims:
        status = pods.status(name)
        assert status["phase"] == "Pending" and status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
        pods.kubectl("delete", "pod", name, "--timeout=30s")


def test_apparmor_is_refused_where_the_kernel_has_none(pods):
    profile = {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    note = {"container.apparmor.security.beta.kubernetes.io/c0": "runtime/default"}
    pods.create(pod("armed", "sleep 1000", **profile), pod("of-old", "sleep 1000", metadata={"annotations": note}))
    field = pods.get("of-old")["spec"]["containers"][0]["securityContext"]["appArmorProfile"]
    assert field == {"type": "RuntimeDefault"}
    if os.path.exists("/sys/module/apparmor/parameters/enabled"):
        return pods.ready("armed", "of-old")
    for name in ("armed", "of-old"):
        status = pods.phase(name, "Failed")
        assert status["reason"] == "AppArmor"
        assert status["message"] == "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"


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
