"""Somebody new comes to the cluster: a certificate request, tokens of every kind, and what each of them may do."""

import base64
import json
import os
import subprocess

import pytest
from conftest import KUBECTL, until


def request(tmp_path, user, group, curve="prime256v1"):
    key, csr = tmp_path / "k.pem", tmp_path / "r.pem"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-nodes", "-keyout", key,
         "-out", csr, "-subj", f"/O={group}/O=second/CN={user}"],
        check=True, capture_output=True,
    )
    return key, base64.b64encode(csr.read_bytes()).decode()


def as_user(cluster, *args, check=True):
    server = cluster.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}")
    ca = base64.b64decode(
        cluster.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}")
    )
    ca_path = cluster.data_dir.parent / "ca.pem"
    ca_path.write_bytes(ca)
    env = dict(os.environ, KUBECONFIG="/dev/null")
    done = subprocess.run(
        [KUBECTL, "--server", server, "--certificate-authority", ca_path, *map(str, args)],
        env=env, capture_output=True, text=True, timeout=60,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# The second is one that few libraries know.
@pytest.mark.parametrize("curve", ["prime256v1", "secp521r1"])
def test_a_certificate_is_asked_for_approved_and_used(cluster, tmp_path, curve):
    key, csr = request(tmp_path, "jane", "dev", curve)
    name = "jane-e2e"
    cluster.apply({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": csr, "signerName": "kubernetes.io/kube-apiserver-client", "expirationSeconds": 3600,
                 "usages": ["client auth", "digital signature"]},
    })
    assert "Pending" in cluster.kubectl("get", "csr", name)
    assert "approved" in cluster.kubectl("certificate", "approve", name)
    cert = until(lambda: cluster.kubectl("get", "csr", name, "-o", "jsonpath={.status.certificate}"), what="a certificate")
    assert "Approved,Issued" in cluster.kubectl("get", "csr", name)
    path = tmp_path / "c.pem"
    path.write_bytes(base64.b64decode(cert))
    who = json.loads(as_user(cluster, "--client-certificate", path, "--client-key", key, "auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == "jane"
    assert {"dev", "second"} <= set(who["status"]["userInfo"]["groups"])
    cluster.kubectl("delete", "csr", name)


def test_whose_certificate_nobody_signs(cluster, tmp_path):
    _, csr = request(tmp_path, "eve", "system:masters")
    refused = cluster.kubectl("apply", "-f", "-", check=False, stderr=True, input=json.dumps({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "eve-e2e"},
        "spec": {"request": csr, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
    }))
    assert "signer with system:masters group is not allowed" in refused

    _, csr = request(tmp_path, "mallory", "dev")
    cluster.apply({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "mallory-e2e"},
        "spec": {"request": csr, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
    })
    assert "denied" in cluster.kubectl("certificate", "deny", "mallory-e2e")
    assert "Denied" in cluster.kubectl("get", "csr", "mallory-e2e")
    cluster.kubectl("delete", "csr", "mallory-e2e")


def test_tokens_say_who_one_is_and_roles_what_one_may(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "serviceaccount", "robot")
    token = k("create", "token", "robot", "--duration=20m").strip()
    who = json.loads(as_user(cluster, "--token", token, "auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert who["username"] == f"system:serviceaccount:{namespace}:robot"
    assert "authentication.kubernetes.io/credential-id" in who["extra"]
    assert as_user(cluster, "--token", token, "-n", namespace, "auth", "can-i", "list", "pods", check=False).startswith("no")

    roles = [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader", "namespace": namespace},
         "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
         "metadata": {"name": "reader", "namespace": namespace},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
         "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}]},
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": roles}
    assert "reconciled" in cluster.kubectl("auth", "reconcile", "-f", "-", input=json.dumps(listed))
    can = lambda *a: as_user(cluster, "--token", token, "-n", namespace, "auth", "can-i", *a, check=False)
    until(lambda: can("list", "pods").startswith("yes"), what="the role to take effect")
    table = can("--list")
    assert any(line.split()[:1] == ["pods"] and "[get list]" in line for line in table.splitlines()), table

    cluster.apply({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "robot-key", "namespace": namespace,
                     "annotations": {"kubernetes.io/service-account.name": "robot"}},
    })
    old = until(lambda: k("get", "secret", "robot-key", "-o", "jsonpath={.data.token}"), what="a token in the secret")
    who = json.loads(as_user(cluster, "--token", base64.b64decode(old).decode(), "auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:robot"
    acted = cluster.kubectl("auth", "whoami", "--as=bob", "--as-group=dev", "--as-uid=7", "-o", "json")
    assert json.loads(acted)["status"]["userInfo"] == {"username": "bob", "uid": "7", "groups": ["dev", "system:authenticated"]}
    k("delete", "serviceaccount", "robot")
    until(lambda: "NotFound" in k("get", "secret", "robot-key", check=False, stderr=True), what="the secret to go")
    gone = as_user(cluster, "--token", token, "get", "pods", check=False)
    assert "must be logged in" in gone or "Unauthorized" in gone, gone
