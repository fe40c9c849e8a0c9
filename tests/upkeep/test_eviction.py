"""A machine that runs short of memory or disk gives up the right pods and recovers by itself."""

import json
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import Cluster, until

DISK_MIB = 400
FLAGS = ["--eviction-hard", "memory.available<128Mi,nodefs.available<25%", "--pressure-hold", "10",
         "--image-gc-high-percent", "100"]


@pytest.fixture(scope="module")
def small():
    """A cluster on a small machine: 512 MiB for pods, and a disk of its own."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="stoa-e2e-", dir="/var/tmp"))
    disk = base / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "stoa-test", disk], check=True)
    c = Cluster(disk / "own")
    c.log_path = base / "log"
    c.images()
    c.resources = "cpus:4;mem:512"
    c.start(*FLAGS).wait_node()
    yield c
    c.down()
    left = [l for l in c.residue() if "stoa-test" not in l]
    subprocess.run(["umount", disk], check=True)
    shutil.rmtree(base, ignore_errors=True)
    assert not left, "the cluster left behind:\n" + "\n".join(left)


def pod(name, command, memory=None, limit=None, volumes=(), **spec):
    resources = {}
    if memory:
        resources["requests"] = {"memory": memory, "cpu": "10m"}
    if limit:
        resources["limits"] = {"memory": limit, "cpu": "10m"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": dict({"terminationGracePeriodSeconds": 30, "containers": [{
            "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command],
            "resources": resources, "volumeMounts": [{"name": v["name"], "mountPath": "/" + v["name"]} for v in volumes]}],
            "volumes": list(volumes)}, **spec),
    }


def status(c, name):
    return json.loads(c.kubectl("get", "pod", name, "-o", "json"))["status"]


def condition(c, kind):
    return c.kubectl("get", "nodes", "-o", f"jsonpath={{.items[0].status.conditions[?(@.type=='{kind}')].status}}")


def check_evicted(c, name, resource):
    s = until(lambda: (s := status(c, name)).get("reason") == "Evicted" and s["phase"] == "Failed" and s, seconds=60, what=f"{name} to be evicted")
    assert s["message"].startswith(f"The node was low on resource: {resource}. Threshold quantity: "), s["message"]
    told = lambda: c.kubectl("get", "events", "--field-selector", f"involvedObject.name={name},reason=Evicted", "-o", "jsonpath={.items[*].message}")
    until(lambda: f"low on resource: {resource}" in told(), what="the event of it")
    noted = c.kubectl("get", "events", "--field-selector", f"involvedObject.name={name},reason=Evicted", "-o",
                      "jsonpath={.items[0].metadata.annotations.starved_resource}")
    assert noted == resource, noted
    disruption = [x for x in s["conditions"] if x["type"] == "DisruptionTarget"]
    assert disruption and disruption[0]["reason"] == "TerminationByKubelet", s["conditions"]


def test_memory_pressure_takes_who_asked_for_nothing_and_spares_the_rest(small):
    c = small
    c.apply(pod("guaranteed", "sleep 3600", memory="32Mi", limit="32Mi"))
    c.apply(pod("modest", "sleep 3600", memory="64Mi"))
    for name in ("guaranteed", "modest"):
        c.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
    hoard = {"name": "hoard", "emptyDir": {"medium": "Memory"}}
    # A SIGTERM is ignored: eviction does not wait for the pod's own grace period.
    c.apply(pod("greedy", "trap '' TERM; dd if=/dev/zero of=/hoard/x bs=1M count=430; while true; do sleep 1; done", volumes=[hoard]))
    until(lambda: condition(c, "MemoryPressure") == "True", seconds=40, what="memory pressure")
    # While it lasts, whoever asks for nothing is not taken, even where somebody sends them past the scheduler.
    node = c.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    c.apply(pod("sent", "sleep 3600", nodeName=node))
    refused = until(lambda: (s := status(c, "sent")).get("phase") == "Failed" and s, what="the refusal")
    assert (refused["reason"], refused["message"]) == ("Evicted", "Pod was rejected: The node had condition: [MemoryPressure]. ")
    until(lambda: "node.kubernetes.io/memory-pressure" in c.kubectl("get", "nodes", "-o", "jsonpath={.items[0].spec.taints[*].key}"),
          what="the taint")
    check_evicted(c, "greedy", "memory")
    until(lambda: condition(c, "MemoryPressure") == "False", seconds=40, what="relief")
    for name in ("guaranteed", "modest"):
        assert status(c, name)["phase"] == "Running", name
    # Once it is over pods that asked for nothing are welcome again.
    c.apply(pod("next", "sleep 3600"))
    c.kubectl("wait", "--for=condition=Ready", "pod/next", "--timeout=40s")
    c.kubectl("delete", "pod", "guaranteed", "modest", "next", "greedy", "sent", "--grace-period=1")


def test_a_full_disk_takes_who_filled_it(small):
    c = small
    c.apply(pod("innocent", "sleep 3600"))
    c.kubectl("wait", "--for=condition=Ready", "pod/innocent", "--timeout=30s")
    fill = "i=0; while true; do dd if=/dev/zero of=/heap/$i bs=1M count=4 2>/dev/null; i=$((i+1)); sleep 0.1; done"
    c.apply(pod("filler", fill, volumes=[{"name": "heap", "emptyDir": {}}]))
    until(lambda: condition(c, "DiskPressure") == "True", seconds=60, what="disk pressure")
    check_evicted(c, "filler", "ephemeral-storage")
    until(lambda: condition(c, "DiskPressure") == "False", seconds=40, what="relief")
    assert status(c, "innocent")["phase"] == "Running"
    used = shutil.disk_usage(c.data_dir).used
    assert used < DISK_MIB * 2**20 * 0.6, f"{used} bytes are still in use"
    c.kubectl("delete", "pod", "innocent", "filler", "--grace-period=1")
