"""A service's endpoints follow its pods, and mirror what people write."""

import json

from conftest import until


def slices(cluster, namespace, service):
    items = cluster.json("-n", namespace, "get", "endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
    return [(s, s.get("endpoints") or []) for s in items]


def ready(cluster, namespace, service):
    found = slices(cluster, namespace, service)
    return sorted(a for _, es in found for e in es if e["conditions"]["ready"] for a in e["addresses"])


def test_endpoints_follow_the_pods_of_a_service(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "deployment", "web", "--image=web", "--replicas=2", "--port=8080")
    k("patch", "deployment", "web", "--type=json", "-p", json.dumps([
        {"op": "add", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "IfNotPresent"},
        {"op": "add", "path": "/spec/template/spec/containers/0/ports/0/name", "value": "http"},
        {"op": "add", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 1},
    ]))
    k("expose", "deployment", "web", "--port=80", "--target-port=http")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    pods = lambda: sorted(
        p["status"]["podIP"] for p in cluster.json("-n", namespace, "get", "pods", "-l", "app=web")["items"]
        if "deletionTimestamp" not in p["metadata"] and p["status"].get("podIP")
    )
    until(lambda: len(pods()) == 2 and ready(cluster, namespace, "web") == pods(), what="both pods to be published")
    # Pods of before the patch had no named port: they leave in a slice of their own.
    until(lambda: len(slices(cluster, namespace, "web")) == 1, what="one slice to be left")
    (found, endpoints), = slices(cluster, namespace, "web")
    assert found["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert {e["targetRef"]["kind"] for e in endpoints} == {"Pod"} and all(e["nodeName"] for e in endpoints)
    legacy = lambda: cluster.json("-n", namespace, "get", "endpoints", "web")["subsets"][0]
    until(lambda: sorted(a["ip"] for a in legacy()["addresses"]) == pods(), what="both pods in the older form")
    assert legacy()["ports"][0]["port"] == 8080
    assert all(ip in k("describe", "service", "web") for ip in pods())
    k("scale", "deployment", "web", "--replicas=0")
    until(lambda: ready(cluster, namespace, "web") == [], what="nobody to be published")
    until(lambda: "subsets" not in cluster.json("-n", namespace, "get", "endpoints", "web"), what="the older form to be empty")
    k("delete", "service", "web")
    until(lambda: not slices(cluster, namespace, "web"), what="the slices to go with the service")
    k("wait", "--for=delete", "endpoints/web", "--timeout=30s")


def test_endpoints_written_by_hand_are_mirrored(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "out"}, "spec": {"ports": [{"name": "db", "port": 5432}]},
    }, "-n", namespace)
    written = {
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "out"},
        "subsets": [{"addresses": [{"ip": "10.200.0.7"}], "ports": [{"name": "db", "port": 5432}]}],
    }
    cluster.apply(written, "-n", namespace)
    until(lambda: ready(cluster, namespace, "out") == ["10.200.0.7"], what="the mirror")
    written["subsets"][0]["addresses"].append({"ip": "10.200.0.8"})
    cluster.apply(written, "-n", namespace)
    until(lambda: ready(cluster, namespace, "out") == ["10.200.0.7", "10.200.0.8"], what="the change in the mirror")
    k("delete", "endpoints", "out")
    until(lambda: not slices(cluster, namespace, "out"), what="the mirror to go")
