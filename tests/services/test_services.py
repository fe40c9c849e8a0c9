"""Programs reach a service by its own address and by a port of the machine, and a pod reaches the API as `kubernetes`."""

import socket
import time
import urllib.error
import urllib.request

from conftest import until


def deployment(name, image, replicas, **container):
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", **container}]}},
        },
    }


def fetch(host, port):
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
        return answer.read().decode()


def test_a_service_follows_its_pods(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    c.apply(deployment("web", "web:latest", 2), *n)
    c.apply(deployment("client", "busybox:latest", 1, command=["sleep", "3600"]), *n)
    for name in ("web", "client"):
        c.kubectl(*n, "rollout", "status", f"deployment/{name}", "--timeout=60s")
    c.kubectl(*n, "expose", "deployment", "web", "--port=80", "--target-port=8080", "--type=NodePort")
    service = c.json(*n, "get", "service", "web")["spec"]
    address, node_port = service["clusterIP"], service["ports"][0]["nodePort"]
    node = c.json("get", "nodes")["items"][0]["status"]["addresses"][0]["address"]

    def ask(host, port):
        request = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port}"
        return c.kubectl(*n, "exec", "deploy/client", "--", "sh", "-c", request, check=False)

    until(lambda: "hello" in ask(address, 80), what="the service to answer a pod")
    assert "hello" in ask(node, node_port), "a pod reaches the node port"
    assert "hello" in fetch(address, 80), "the machine reaches the service"
    assert "hello" in fetch(node, node_port), "the machine reaches the node port"

    c.kubectl(*n, "scale", "deployment/web", "--replicas=0")

    def is_refused():
        try:
            fetch(address, 80)
        except urllib.error.URLError as e:
            return isinstance(e.reason, ConnectionRefusedError)
        except ConnectionError:
            # A server that is just ending took the connection and did not answer.
            return False
        return False

    until(is_refused, what="a service without pods to refuse at once")
    c.kubectl(*n, "scale", "deployment/web", "--replicas=1")
    until(lambda: "hello" in ask(address, 80), what="the service to answer again")
    c.kubectl(*n, "delete", "service", "web")

    def is_gone():
        with socket.socket() as s:
            s.settimeout(1)
            return s.connect_ex((node, node_port)) != 0

    until(is_gone, what="the node port to lead nowhere")


def test_a_pod_reaches_the_api_in_its_cluster(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    c.apply(deployment("client", "busybox:latest", 1, command=["sleep", "3600"]), *n)
    c.kubectl(*n, "rollout", "status", "deployment/client", "--timeout=60s")
    reach = 'nc -w 5 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" </dev/null && echo reached'
    assert "reached" in c.kubectl(*n, "exec", "deploy/client", "--", "sh", "-c", reach)
    found = c.kubectl(*n, "exec", "deploy/client", "--", "env")
    assert "KUBERNETES_PORT_443_TCP_ADDR=" in found


def test_a_pod_finds_services_by_name(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    c.apply(deployment("web", "web:latest", 1), *n)
    c.apply(deployment("client", "busybox:latest", 1, command=["sleep", "3600"]), *n)
    for name in ("web", "client"):
        c.kubectl(*n, "rollout", "status", f"deployment/{name}", "--timeout=60s")
    c.kubectl(*n, "expose", "deployment", "web", "--port=80", "--target-port=8080")
    c.kubectl(*n, "expose", "deployment", "web", "--name=direct", "--port=8080", "--cluster-ip=None")
    address = c.json(*n, "get", "service", "web")["spec"]["clusterIP"]
    pod = c.json(*n, "get", "pods", "-l", "app=web")["items"][0]["status"]["podIP"]

    def resolve(name):
        return c.kubectl(*n, "exec", "deploy/client", "--", "nslookup", name, check=False, stderr=True)

    until(lambda: address in resolve(f"web.{namespace}.svc.cluster.local"), what="the name of the service")
    until(lambda: pod in resolve(f"direct.{namespace}.svc.cluster.local"), what="the name of a service without an address")
    assert c.json("get", "service", "kubernetes")["spec"]["clusterIP"] in resolve("kubernetes.default.svc.cluster.local")
    assert "NXDOMAIN" in resolve(f"nobody.{namespace}.svc.cluster.local")
    config = c.kubectl(*n, "exec", "deploy/client", "--", "cat", "/etc/resolv.conf")
    assert f"search {namespace}.svc.cluster.local svc.cluster.local cluster.local" in config and "ndots:5" in config


def test_a_udp_client_that_keeps_its_socket_follows_the_service(cluster, namespace):
    """The kernel remembers where a flow was led; who left a service must not be heard of again, nor a port without anybody stay dead."""
    c, n = cluster, ("-n", namespace)
    node = c.json("get", "nodes")["items"][0]["status"]["addresses"][0]["address"]
    servers = {}
    for name in ("a", "b"):
        servers[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        servers[name].bind((node, 0))

    def lead_to(*names):
        endpoints = [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                      "metadata": {"name": f"s-{x}", "labels": {"kubernetes.io/service-name": "s"}},
                      "endpoints": [{"addresses": [node]}],
                      "ports": [{"name": "", "port": servers[x].getsockname()[1], "protocol": "UDP"}]} for x in names]
        for x in servers:
            if x not in names:
                c.kubectl(*n, "delete", "endpointslice", f"s-{x}", "--ignore-not-found")
        for slice in endpoints:
            c.apply(slice, *n)

    def heard_by(client):
        """Who gets what the client says; nobody, if nobody does."""
        word = str(time.monotonic_ns()).encode()
        for x in servers.values():
            x.settimeout(0.2)
        try:
            client.send(word)
        except OSError:
            return None
        for name, server in servers.items():
            try:
                while server.recv(100) != word:
                    pass
                return name
            except TimeoutError:
                pass
        return None

    c.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "type": "NodePort", "ports": [{"port": 80, "protocol": "UDP"}]}}, *n)
    spec = c.json(*n, "get", "service", "s")["spec"]
    clients = []
    for front in ((spec["clusterIP"], 80), (node, spec["ports"][0]["nodePort"])):
        clients.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        clients[-1].connect(front)
    for names, want in ((("a",), "a"), (("b",), "b"), ((), None), (("a",), "a")):
        lead_to(*names)
        until(lambda: [heard_by(x) for x in clients] == [want, want], what=f"both to be heard by {want}")
    for s in (*clients, *servers.values()):
        s.close()
