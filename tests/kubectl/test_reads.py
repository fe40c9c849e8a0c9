"""A user looks around: what kinds there are and what their fields mean, in pages, by fields, as things change, through a pod."""

import json
import os
import subprocess

from conftest import until
from test_workload import deployment


def test_kinds_explain_themselves_and_the_server_its_health(cluster):
    pod = cluster.kubectl("explain", "pod.spec", "--recursive")
    assert "containers\t<[]Container> -required-" in pod and "topologySpreadConstraints\t<[]TopologySpreadConstraint>" in pod
    field = cluster.kubectl("explain", "deployment.spec.strategy.rollingUpdate.maxSurge")
    assert "FIELD: maxSurge <IntOrString>" in field
    assert "GROUP:      batch" in cluster.kubectl("explain", "cronjobs")
    verbose = cluster.kubectl("get", "--raw", "/readyz?verbose")
    assert "[+]etcd ok" in verbose and verbose.strip().endswith("readyz check passed")
    assert cluster.kubectl("get", "--raw", "/livez/ping") == "ok"
    keys = json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks"))["keys"]
    about = json.loads(cluster.kubectl("get", "--raw", "/.well-known/openid-configuration"))
    assert keys[0]["alg"] in about["id_token_signing_alg_values_supported"]
    assert "Healthy" in cluster.kubectl("get", "componentstatuses")
    assert "apiserver_request_total" in cluster.kubectl("get", "--raw", "/metrics")


def test_lists_come_in_pages_by_fields_and_as_they_change(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    for i in range(7):
        k("create", "configmap", f"m{i}", f"--from-literal=n={i}")
    found = k("get", "configmaps", "--chunk-size=2", "-o", "name").split()
    assert [f for f in found if f != "configmap/kube-root-ca.crt"] == [f"configmap/m{i}" for i in range(7)]
    assert k("get", "configmaps", "--field-selector=metadata.name=m3", "-o", "name").split() == ["configmap/m3"]
    refused = k("get", "configmaps", "--field-selector=data.n=1", check=False, stderr=True)
    assert "not a known field selector" in refused
    watch = cluster.popen("-n", namespace, "get", "configmaps", "--watch-only", "-o", "name", stdout=subprocess.PIPE)
    try:
        # What happened before the watch began is none of its business: something happens until it says so.
        os.set_blocking(watch.stdout.fileno(), False)
        seen = until(lambda: k("create", "configmap", "late") and k("delete", "configmap", "late") and watch.stdout.readline(),
                     what="an event")
        assert seen.strip() == "configmap/late", seen
    finally:
        watch.terminate()
        watch.wait()


def test_a_pod_and_a_service_are_reached_through_the_server(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply(deployment("web", replicas=1), "-n", namespace)
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("expose", "deployment", "web", "--port=80", "--target-port=8080")
    pod = k("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
    base = f"/api/v1/namespaces/{namespace}"
    assert k("get", "--raw", f"{base}/pods/{pod}:8080/proxy/") == "hello from stoa\n"
    page = until(lambda: k("get", "--raw", f"{base}/services/web:80/proxy/", check=False), what="the service's page")
    assert page == "hello from stoa\n"
    assert "ServiceUnavailable" in k("get", "--raw", f"{base}/pods/{pod}:81/proxy/", check=False, stderr=True)
