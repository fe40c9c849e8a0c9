"""A fuzzer that knows our own OpenAPI documents sends what they allow and what they do not. Whatever it is, it is answered for what
it is: nothing of it is the server's own fault."""

import base64
import re
import subprocess

import pytest

from conftest import ROOT

FUZZER = ROOT / ".stoa/tools/schemathesis/bin/schemathesis"
SECONDS_MAX = 25
# Tunnels need a running pod, and have stories of their own.
TUNNELS = "/(proxy|exec|attach|portforward|log)(/|$)|/watch/"


@pytest.mark.parametrize("document", ["api/v1", "apis/apps/v1"])
def test_nothing_that_the_document_describes_is_a_server_error(own_cluster, document, tmp_path):
    c = own_cluster
    files = {}
    for name, path in {
        "ca": "clusters[0].cluster.certificate-authority-data", "cert": "users[0].user.client-certificate-data",
        "key": "users[0].user.client-key-data",
    }.items():
        data = c.kubectl("config", "view", "--raw", "-o", "jsonpath={." + path + "}")
        files[name] = tmp_path / name
        files[name].write_bytes(base64.b64decode(data))
    url = f"https://127.0.0.1:{c.api_port}"
    done = subprocess.run(
        [
            FUZZER, "--no-color", "run", f"{url}/openapi/v3/{document}", "--url", url, "--tls-verify", files["ca"],
            "--request-cert", files["cert"], "--request-cert-key", files["key"], "--checks", "not_a_server_error",
            "--phases", "fuzzing", "--max-time", str(SECONDS_MAX), "--max-examples", "3", "--no-shrink", "--seed", "1",
            "--request-timeout", "5", "--suppress-health-check", "all", "--exclude-path-regex", TUNNELS,
            "--continue-on-failure", "--generation-database", "none", "--workers", "1", "--warnings", "off",
        ],
        capture_output=True, text=True, timeout=SECONDS_MAX * 4, cwd=tmp_path,
    )
    # A list that the fuzzer asked to watch goes on until its own patience ends: that alone is no failure.
    timeouts = done.stdout.count("Read timed out")
    only_watches = "FAILURES" not in done.stdout and 0 < timeouts == done.stdout.count("Connection failed")
    assert done.returncode == 0 or only_watches, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\b[1-9]\d* generated", done.stdout), done.stdout[-6000:]
    assert c.kubectl("get", "--raw", "/readyz") == "ok"
