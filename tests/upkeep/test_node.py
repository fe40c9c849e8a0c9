"""An operator looks after a machine: what it has and uses, taking it out of service and back."""

import json
import time

from conftest import until


def pod(name, command="sleep 3600", **spec):
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1,
                 "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                                 "command": ["sh", "-c", command]}], **spec},
    }


def node_name(cluster):
    return cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")


def test_top_shows_what_nodes_and_pods_use(cluster, namespace):
    busy = pod("busy", "while true; do :; done")
    busy["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "200m", "memory": "64Mi"}}
    cluster.apply(busy, "-n", namespace)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/busy", "--timeout=30s")
    assert "metrics.k8s.io/v1beta1" in cluster.kubectl("api-versions")
    row = until(lambda: cluster.kubectl("-n", namespace, "top", "pod", "busy", "--no-headers", check=False).split(),
                seconds=60, what="the pod's figures")
    assert row[0] == "busy" and row[1].endswith("m") and row[2].endswith("Mi"), row
    # A fifth of a processor is what it may have, and it takes it.
    until(lambda: 100 <= int(cluster.kubectl("-n", namespace, "top", "pod", "busy", "--no-headers").split()[1][:-1]) <= 260,
          seconds=40, what="the share of a processor", pause=2)
    assert "c" in cluster.kubectl("-n", namespace, "top", "pod", "--containers", "--no-headers", "-l", "app=busy").split()
    node = cluster.kubectl("top", "node", "--no-headers").split()
    assert node[0] == node_name(cluster) and node[1].endswith("m") and node[2].endswith("%") and node[3].endswith("Mi"), node
    one = json.loads(cluster.kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/busy"))
    assert one["kind"] == "PodMetrics" and one["containers"][0]["usage"]["cpu"].endswith("n")
    # Who may not read them does not.
    denied = cluster.kubectl("auth", "can-i", "list", "nodes.metrics.k8s.io", "--as=nobody", check=False)
    assert denied.strip() == "no"
    refused = cluster.kubectl("top", "node", "--as=nobody", check=False, stderr=True)
    assert "Forbidden" in refused or "forbidden" in refused, refused


def test_the_node_answers_through_the_api_server(cluster, namespace):
    name = node_name(cluster)
    read = lambda path, *a, **kw: cluster.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/{path}", *a, **kw)
    # Test suites and scrapers name the port of a kubelet.
    for named in (f"{name}:10250", f"https:{name}:10250"):
        assert cluster.kubectl("get", "--raw", f"/api/v1/nodes/{named}/proxy/healthz") == "ok"
    cluster.apply(pod("seen"), "-n", namespace)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/seen", "--timeout=30s")
    assert read("healthz") == "ok"
    pods = json.loads(read("pods"))
    mine = [p for p in pods["items"] if p["metadata"]["namespace"] == namespace]
    assert pods["kind"] == "PodList" and mine[0]["status"]["phase"] == "Running"
    summary = until(lambda: (s := json.loads(read("stats/summary"))) and "seen" in {p["podRef"]["name"] for p in s["pods"]} and s,
                    what="the pod in the summary")
    assert summary["node"]["nodeName"] == name
    assert summary["node"]["memory"]["workingSetBytes"] > 0 and summary["node"]["fs"]["capacityBytes"] > 0
    resource = read("metrics/resource")
    assert f'container_memory_working_set_bytes{{container="c",namespace="{namespace}",pod="seen"}}' in resource
    assert "node_cpu_usage_seconds_total " in resource
    mine = next(p for p in summary["pods"] if p["podRef"]["name"] == "seen")
    assert {"cpu", "memory", "swap", "io", "network", "volume", "ephemeral-storage"} <= mine.keys(), mine
    assert mine["process_stats"]["process_count"] == 1 and mine["cpu"]["psi"].keys() == {"full", "some"}
    assert mine["network"]["name"] == "eth0" and [v["name"].startswith("kube-api-access-") for v in mine["volume"]] == [True]
    assert {"rootfs", "logs", "swap"} <= mine["containers"][0].keys() and mine["containers"][0]["logs"]["inodesUsed"] >= 1
    assert summary["node"]["systemContainers"][0]["name"] == "pods" and summary["node"]["network"]["interfaces"]
    figures = read("metrics/cadvisor")
    assert 'container_cpu_usage_seconds_total{container="c",cpu="total",id="/' in figures
    for family in ("container_network_receive_bytes_total", "container_spec_memory_limit_bytes", "container_start_time_seconds",
                   "container_last_seen", "container_processes", "container_threads", "container_threads_max", "machine_memory_bytes",
                   "cadvisor_version_info"):
        assert f"\n{family}{{" in figures or figures.startswith(f"{family}{{"), family
    for family in ("container_swap_usage_bytes", "node_swap_usage_bytes", "pod_swap_usage_bytes"):
        assert f"# HELP {family} [ALPHA] " in read("metrics/resource"), family
    config = json.loads(read("configz"))["kubeletconfig"]
    assert config["maxPods"] == 110 and config["nodeStatusReportFrequency"] == "5m0s"
    assert read("statusz").startswith("\nkubelet statusz\nWarning: ") and "\nmax-pods 110\n" in read("flagz")
    running = json.loads(read("runningpods/"))
    mine = [p for p in running["items"] if p["metadata"]["namespace"] == namespace]
    digest = json.loads(cluster.kubectl("get", "pod", "seen", "-n", namespace, "-o", "json"))["status"]["containerStatuses"][0]["imageID"]
    assert (running["kind"], mine[0]["spec"]["containers"]) == ("PodList", [{"name": "c", "image": digest, "resources": {}}])
    assert "\nprocess_start_time_seconds " in read("metrics/probes")
    assert read("healthz") == "ok"
    slis = read("metrics/slis")
    assert 'kubernetes_healthcheck{name="syncloop",type="healthz"} 1\n' in slis
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} ' in slis
    listing = read("logs/")
    assert listing.startswith("<!doctype html>") and "</pre>" in listing
    post = lambda path: cluster.kubectl("create", "--raw", f"/api/v1/nodes/{name}/proxy/{path}", "-f", "-", input="", check=False, stderr=True)
    assert "NotFound" in post(f"checkpoint/{namespace}/seen/none")
    assert f"checkpointing of {namespace}/seen/c failed" in post(f"checkpoint/{namespace}/seen/c")
    assert "NotFound" in (out := read("run/x", check=False, stderr=True)) or "not found" in out
    for who, path in [("nobody", "pods"), ("system:node:other", "stats/summary"), ("nobody", "logs/"), ("nobody", "runningpods/")]:
        refused = read(path, f"--as={who}", check=False, stderr=True)
        assert "forbidden" in refused.lower(), (who, path, refused)


def test_the_nodes_status_tells_what_it_is(cluster):
    node = json.loads(cluster.kubectl("get", "node", node_name(cluster), "-o", "json"))
    status = node["status"]
    assert status["capacity"]["cpu"] == "4" and status["capacity"]["pods"] == "110"
    assert set(status["allocatable"]) >= {"cpu", "memory", "ephemeral-storage", "pods"}
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions == {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    info = status["nodeInfo"]
    for field in ["kernelVersion", "osImage", "bootID", "containerRuntimeVersion", "kubeletVersion", "architecture", "operatingSystem"]:
        assert info[field], field
    assert any("busybox" in n for i in status["images"] for n in i["names"])


def test_the_nodes_lease_is_always_fresh_and_never_written(cluster):
    name = node_name(cluster)
    read = lambda: json.loads(cluster.kubectl("get", "lease", "-n", "kube-node-lease", name, "-o", "json"))
    first = read()
    assert first["spec"]["holderIdentity"] == name and first["spec"]["leaseDurationSeconds"] == 40
    time.sleep(1.1)
    second = read()
    assert second["spec"]["renewTime"] > first["spec"]["renewTime"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    listed = json.loads(cluster.kubectl("get", "leases", "-n", "kube-node-lease", "-o", "json"))["items"]
    assert [l["spec"]["renewTime"] >= second["spec"]["renewTime"] for l in listed if l["metadata"]["name"] == name] == [True]


def test_drain_empties_a_cordoned_node_and_uncordon_brings_it_back(cluster, namespace):
    name = node_name(cluster)
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("x")["spec"]}},
    }, "-n", namespace)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    cluster.apply(pod("bare"), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/bare", "--timeout=30s")
    try:
        cluster.kubectl("cordon", name)
        assert "SchedulingDisabled" in cluster.kubectl("get", "node", name)
        taints = lambda: cluster.kubectl("get", "node", name, "-o", "jsonpath={.spec.taints[*].key}")
        until(lambda: "node.kubernetes.io/unschedulable" in taints(), what="the taint")
        refused = cluster.kubectl("drain", name, f"--pod-selector=app in (web,bare)", "--timeout=20s", check=False, stderr=True)
        assert "cannot delete Pods that declare no controller" in refused or "declare no controller" in refused, refused
        done = cluster.kubectl("drain", name, "--pod-selector=app in (web,bare)", "--force", "--ignore-daemonsets", "--timeout=60s", stderr=True)
        assert f"node/{name} drained" in done and "evicting pod" in done
        assert k("get", "pod", "bare", "--ignore-not-found") == ""
        until(lambda: all(p["status"]["phase"] == "Pending" for p in json.loads(k("get", "pods", "-l", "app=web", "-o", "json"))["items"]),
              what="the new pods to wait")
    finally:
        cluster.kubectl("uncordon", name)
    k("rollout", "status", "deployment/web", "--timeout=60s")
