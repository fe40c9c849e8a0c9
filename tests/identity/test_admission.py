"""What an operator decides about admission when the master starts: optional plugins, and how pods are judged by default."""

import json

from conftest import until

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
       "spec": {"hostPID": True, "containers": [{"name": "c", "image": "busybox"}]}}

CONFIG = """
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, audit: restricted, warn: restricted}
    exemptions: {usernames: [trusted], namespaces: [kube-system]}
"""


def test_admission_is_configured_as_a_stock_server_is(own_cluster, tmp_path, monkeypatch):
    c = own_cluster
    c.stop()
    path = tmp_path / "admission.yaml"
    path.write_text(CONFIG)
    monkeypatch.setenv("STOA_LOG", "info,stoa_api=debug")
    c.start("--admission-control-config-file", path, "--enable-admission-plugins", "OwnerReferencesPermissionEnforcement")

    def create(thing, *args):
        return c.kubectl("create", "-f", "-", *args, input=json.dumps(thing), check=False, stderr=True)

    until(lambda: "default" in c.kubectl("get", "serviceaccounts", "-o", "name"), what="the default account")
    refused = create(POD)
    assert 'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)' in refused, refused
    def noted(annotation):
        return [line for line in c.log_path.read_text().splitlines() if "noted for an audit" in line and annotation in line]

    until(lambda: noted('pod-security.kubernetes.io/audit-violations": "would violate PodSecurity \\"restricted:latest\\"'),
          what="the note on what is against the audited level")
    assert noted('"pod-security.kubernetes.io/enforce-policy": "baseline:latest"')

    c.kubectl("create", "clusterrolebinding", "trusted", "--clusterrole=edit", "--user=trusted", "--user=jane")
    dry = ("--dry-run=server", "--as=trusted")
    assert "pod/p created" in until(lambda: (t := create(POD, *dry)) and "cannot create" not in t and t, what="the role's view")
    until(lambda: noted('"pod-security.kubernetes.io/exempt": "user"'), what="the note on the exemption")

    # Owners are named by who may delete, and made to wait by who may set their finalizers.
    node = c.json("get", "nodes")["items"][0]["metadata"]
    ours = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": node["name"], "uid": node["uid"], "blockOwnerDeletion": True}]}}
    refused = create(ours, "--as=jane")
    assert "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>" in refused
    del ours["metadata"]["ownerReferences"][0]["blockOwnerDeletion"]
    assert "configmap/owned created" in create(ours, "--as=jane")
    c.kubectl("delete", "configmap", "owned")

    # A namespace that becomes stricter than the default tells of what it would no longer let in.
    c.kubectl("label", "namespace", "default", "pod-security.kubernetes.io/enforce=privileged")
    warned = create(dict(POD, spec=dict(POD["spec"], nodeName="nowhere")), "--dry-run=server")
    assert 'would violate PodSecurity "restricted:latest"' in warned, warned
