"""Containers that have CPUs to themselves, and what is left for everybody else."""

import json
import os
import subprocess

import pytest

from conftest import STOA, until
from pods import Pods, condition, container, pod

CPUS = sorted(os.sched_getaffinity(0))


def listed(cpus):
    """In the kernel's list form."""
    runs = []
    for cpu in cpus:
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def guaranteed(cpus):
    amount = {"cpu": str(cpus), "memory": "32Mi"}
    return {"name": "c0", "script": "sleep 1000", "resources": {"requests": amount, "limits": amount}}


def where(pods, name):
    """The CPUs that a pod's first process and one that is new in it may run on."""
    return pods.sh(name, "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/1/status /proc/self/status", check=False).split()


@pytest.mark.skipif(len(CPUS) < 2, reason="one CPU cannot be both shared and somebody's own")
def test_whole_cpus_are_a_containers_own_until_its_pod_is_gone(own_cluster):
    cluster = own_cluster
    cluster.stop()
    command = [STOA, "up", "--data-dir", cluster.data_dir, "--api-port", cluster.api_port, "--mesos-port", cluster.mesos_port,
               "--cpu-manager-policy", "static"]
    refused = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0 and "the static policy requires reserved CPUs" in refused.stderr, refused.stderr

    cluster.resources = f"cpus:{len(CPUS)};mem:4096;ports:[31000-32000]"
    static = ["--cpu-manager-policy", "static", "--reserved-cpus", str(CPUS[0])]
    cluster.start(*static).wait_node()
    node = cluster.json("get", "nodes")["items"][0]
    until(lambda: cluster.json("get", "nodes")["items"][0]["status"]["allocatable"]["cpu"] == str(len(CPUS) - 1), what="less to allocate")
    pods = Pods(cluster, "default")
    everywhere, shared, own = [listed(c) for c in (CPUS, CPUS[:1], CPUS[1:])]

    burstable = {"name": "c0", "script": "sleep 1000", "resources": {"requests": {"memory": "32Mi"}}}
    pods.create(pod("early", burstable))
    pods.ready("early")
    assert where(pods, "early") == [everywhere] * 2
    pods.create(pod("own", guaranteed(len(CPUS) - 1)))
    pods.ready("own")
    assert where(pods, "own") == [own] * 2
    # Whoever runs already makes room before the other one starts.
    assert where(pods, "early") == [shared] * 2
    pods.create(pod("late", burstable))
    pods.ready("late")
    until(lambda: where(pods, "late") == [shared] * 2, what="the place of a pod that came later")
    pods.create(pod("bound", guaranteed(1), nodeName=node["metadata"]["name"]))
    status = pods.phase("bound", "Failed")
    assert (status["reason"], status["message"]) == (
        "UnexpectedAdmissionError",
        "Pod was rejected: Allocate failed due to not enough cpus available to satisfy request: requested=1, available=0, which is unexpected")
    less = {"cpu": "500m", "memory": "32Mi"}
    patch = {"spec": {"containers": [{"name": "c0", "resources": {"requests": less, "limits": less}}]}}
    pods.kubectl("patch", "pod", "own", "--subresource=resize", "-p", json.dumps(patch))
    pending = condition(pods.until("own", lambda s: condition(s, "PodResizePending"), what="a verdict"), "PodResizePending")
    assert (pending["reason"], pending["message"]) == (
        "Infeasible", "Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy")

    cluster.kill9()
    cluster.start(*static).wait_node()
    pods.ready("own", "early", "late")
    assert (where(pods, "own"), where(pods, "early"), where(pods, "late")) == ([own] * 2, [shared] * 2, [shared] * 2)
    assert container(pods.status("own"), "c0")["restartCount"] == 0
    pods.kubectl("delete", "pod", "own")
    for name in ["early", "late"]:
        until(lambda: where(pods, name) == [everywhere] * 2, what="what was given back")
