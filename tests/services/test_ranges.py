"""Services' addresses are objects that clients can look at, and a range may be added to the first one and taken away again."""

from conftest import until
from test_services import deployment, fetch

READY = "{.status.conditions[?(@.type=='Ready')].status}"


def service(name, address=None):
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**spec, **({"clusterIP": address} if address else {})}}


def test_a_range_is_added_used_and_goes_with_its_last_service(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    first = c.json("get", "servicecidr", "kubernetes")
    until(lambda: c.kubectl("get", "servicecidr", "kubernetes", "-o", f"jsonpath={READY}") == "True", what="the first range to be ready")
    api = c.json("get", "service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    assert first["spec"]["cidrs"] == ["10.96.0.0/16"] and api == "10.96.0.1"
    parent = until(lambda: c.json("get", "ipaddress", api)["spec"]["parentRef"], what="the API's address as an object")
    assert parent == {"resource": "services", "namespace": "default", "name": "kubernetes"}

    cidr = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"}, "spec": {"cidrs": ["10.213.7.0/28"]}}
    assert "does not match the current range" in c.kubectl(
        *n, "create", "-f", "-", input=str(service("far", "10.213.7.9")).replace("'", '"'), check=False, stderr=True)
    c.apply(cidr)
    until(lambda: c.kubectl("get", "servicecidr", "more", "-o", f"jsonpath={READY}") == "True", what="the range to be ready")
    c.apply(deployment("web", "web:latest", 1), *n)
    c.kubectl(*n, "rollout", "status", "deployment/web", "--timeout=60s")
    c.apply(service("far", "10.213.7.9"), *n)

    def answers():
        try:
            return "hello" in fetch("10.213.7.9", 80)
        except OSError:
            return False

    until(answers, what="a service of the added range to answer")
    c.kubectl("delete", "servicecidr", "more", "--wait=false")
    until(lambda: c.kubectl("get", "servicecidr", "more", "-o", f"jsonpath={READY}") == "False", what="the range to wait for its service")
    c.kubectl(*n, "delete", "service", "far")
    c.kubectl("wait", "--for=delete", "servicecidr/more", "ipaddress/10.213.7.9", "--timeout=30s")
