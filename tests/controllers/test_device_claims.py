"""Claims of devices that pods have made for them, and claims of volumes that say what they wait for."""

import json

from conftest import until


def test_a_pod_gets_the_claims_that_it_names_templates_for(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    c.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}],
        "containers": [{"name": "c", "image": "busybox:latest", "resources": {"claims": [{"name": "gpu"}]}}]}}, *n)
    said = lambda reason: [e["message"] for e in c.json(*n, "get", "events", f"--field-selector=reason={reason}")["items"]]
    missing = 'PodResourceClaim gpu: resource claim template "t": resourceclaimtemplate.resource.k8s.io "t" not found'
    until(lambda: missing in said("FailedResourceClaimCreation"), what="the event")
    c.apply({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "t"}, "spec": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpus"}}]}}}}, *n)
    statuses = until(lambda: c.json(*n, "get", "pod", "p")["status"].get("resourceClaimStatuses"), what="the claim's name")
    assert [s["name"] for s in statuses] == ["gpu"]
    claim = c.json(*n, "get", "resourceclaim", statuses[0]["resourceClaimName"])
    meta = claim["metadata"]
    assert meta["name"].startswith("p-gpu-") and meta["labels"] == {"a": "b"}
    assert meta["annotations"] == {"resource.kubernetes.io/pod-claim-name": "gpu"}
    assert [(o["kind"], o["name"], o["controller"]) for o in meta["ownerReferences"]] == [("Pod", "p", True)]
    assert claim["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] == "gpus"
    c.kubectl(*n, "delete", "pod", "p")
    until(lambda: not c.json(*n, "get", "resourceclaims")["items"], what="the claim to go with its pod")


def test_a_claim_of_a_volume_says_what_it_waits_for(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    classes = {f"{namespace}-{name}": mode for name, mode in (("now", "Immediate"), ("late", "WaitForFirstConsumer"))}
    try:
        for name, mode in classes.items():
            c.apply({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                     "provisioner": "stoa.dev/nobody", "volumeBindingMode": mode})
            c.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
                "storageClassName": name, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}, *n)
        now, late = classes
        said = lambda claim: {e["reason"] for e in c.json(*n, "get", "events")["items"] if e["involvedObject"]["name"] == claim}
        until(lambda: "ExternalProvisioning" in said(now), what="the provisioner to be waited for")
        notes = c.json(*n, "get", "pvc", now)["metadata"]["annotations"]
        assert notes["volume.kubernetes.io/storage-provisioner"] == "stoa.dev/nobody", json.dumps(notes)
        until(lambda: "WaitForFirstConsumer" in said(late), what="the consumer to be waited for")
    finally:
        c.kubectl(*n, "delete", "pvc", "--all", check=False)
        c.kubectl("delete", "storageclass", *classes, check=False)
