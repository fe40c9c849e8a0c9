"""Programs in pods are reached through the API server: over TLS, by every verb, and their links lead back through it."""

import http.client
import subprocess

import pytest
from conftest import until

PAGE = '<html><title>a < b</title><a href="/rewriteme">test</a><img src=\'/i.png\'><a href="near">x</a></html>\n'


@pytest.fixture
def pages(cluster, namespace, tmp_path):
    """A pod that serves a page on 8080, and on 8443 with a certificate that nobody issued."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=nobody", "-keyout", key, "-out", cert], check=True, capture_output=True)
    n = ("-n", namespace)
    cluster.kubectl(*n, "create", "configmap", "page", f"--from-literal=index.html={PAGE}",
                    f"--from-literal=both.pem={key.read_text()}{cert.read_text()}")
    server = lambda name, *more: {
        "name": name, "image": "web:latest", "imagePullPolicy": "IfNotPresent", "volumeMounts": [{"name": "page", "mountPath": "/page"}],
        "command": ["/usr/sbin/mini_httpd", "-D", "-d", "/page", "-u", "root", "-i", f"/tmp/{name}", *more]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "p"}}, "spec": {
        "terminationGracePeriodSeconds": 0, "volumes": [{"name": "page", "configMap": {"name": "page"}}],
        "containers": [server("plain", "-p", "8080"), server("tls", "-p", "8443", "-S", "-E", "/page/both.pem")]}}, *n)
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "selector": {"app": "p"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}, {"name": "tls", "port": 443, "targetPort": 8443}]}}, *n)
    cluster.kubectl(*n, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    return f"/api/v1/namespaces/{namespace}"


def test_pages_come_through_the_proxy_with_their_links(cluster, pages):
    with cluster.popen("proxy", "--port=0", stdout=subprocess.PIPE) as proxy:
        try:
            port = int(proxy.stdout.readline().rsplit(":", 1)[1])

            def ask(path, method="GET"):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request(method, path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()

            for way in ("pods/p:8080", "pods/http:p:8080", "services/s:web", "services/http:s:80", "pods/https:p:8443",
                        "services/https:s:tls", "services/https:s:443"):
                base = f"{pages}/{way}/proxy"
                want = PAGE.replace('"/rewriteme"', f'"{base}/rewriteme"').replace("'/i.png'", f"'{base}/i.png'")
                until(lambda: ask(base + "/") == (200, want), what=f"the page by {way}")
            # An answer to HEAD has no body, whoever gives it.
            assert ask(f"{pages}/pods/https:p:8443/proxy/", "HEAD") == (200, "")
            assert ask(f"{pages}/pods/https:p:9/proxy/", "HEAD") == (503, "")
        finally:
            proxy.terminate()


def test_an_answer_to_head_over_http2_has_no_body(cluster):
    for path in ("/nowhere", "/api/v1/namespaces/default/pods/none", "/version"):
        done = subprocess.run(
            ["curl", "-sS", "-k", "--http2", "-I", f"https://127.0.0.1:{cluster.api_port}{path}"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and done.stdout.startswith("HTTP/2 "), done
