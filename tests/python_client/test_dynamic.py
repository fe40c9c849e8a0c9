"""An operator's tooling on the official Python client: the dynamic client, an informer of its own, server-side apply."""

import json
import threading

import pytest
from kubernetes import client, config, dynamic
from kubernetes.dynamic.exceptions import ConflictError, UnprocessibleEntityError

from conftest import until


@pytest.fixture
def dyn(cluster):
    config.load_kube_config(str(cluster.data_dir / "kubeconfig"))
    return dynamic.DynamicClient(client.ApiClient())


def deployment(replicas, image="busybox:latest", **container):
    spec = {"containers": [{"name": "c", "image": image, **container}]}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
                 "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}},
    }


class Informer:
    """What client-go's informers do: list, then watch from there; a cache by name."""

    def __init__(self, api, namespace):
        self.api, self.namespace, self.cache, self.seen = api, namespace, {}, []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        first = self.api.get(namespace=self.namespace)
        self.cache = {o.metadata.name: o.metadata.resourceVersion for o in first.items}
        version = first.metadata.resourceVersion
        while not self.stop.is_set():
            for event in self.api.watch(namespace=self.namespace, resource_version=version, timeout=3):
                meta = event["object"].metadata
                version = meta.resourceVersion
                self.seen.append((event["type"], meta.name))
                if event["type"] == "DELETED":
                    self.cache.pop(meta.name, None)
                else:
                    self.cache[meta.name] = version


def test_an_informer_mirrors_what_the_dynamic_client_does(dyn, namespace):
    api = dyn.resources.get(api_version="v1", kind="ConfigMap")
    informer = Informer(api, namespace)
    api.create(body={"metadata": {"name": "old"}, "data": {"a": "1"}}, namespace=namespace)
    informer.thread.start()
    until(lambda: "old" in informer.cache, what="the first list")
    api.create(body={"metadata": {"name": "new", "labels": {"x": "y"}}}, namespace=namespace)
    api.patch(name="old", namespace=namespace, body={"data": {"a": "2"}}, content_type="application/merge-patch+json")
    old = api.get(name="old", namespace=namespace)
    old.data.b = "3"
    api.replace(body=old.to_dict(), namespace=namespace)
    stale = old.to_dict()
    with pytest.raises(ConflictError):
        api.replace(body=stale, namespace=namespace)
    api.delete(name="new", namespace=namespace)
    until(lambda: ("DELETED", "new") in informer.seen, what="the deletion")
    live = {o.metadata.name: o.metadata.resourceVersion for o in api.get(namespace=namespace).items}
    until(lambda: informer.cache == live, what="the cache to agree")
    assert [e for e in informer.seen if e[1] == "old"] == [("MODIFIED", "old")] * 2
    assert api.get(namespace=namespace, label_selector="x=y").items == []
    informer.stop.set()
    informer.thread.join(timeout=10)


def owners(obj):
    return {(m["manager"], m["operation"]) for m in obj.to_dict()["metadata"]["managedFields"]}


def test_fields_have_owners_on_every_way_of_writing(dyn, namespace, cluster):
    api = dyn.resources.get(api_version="apps/v1", kind="Deployment")
    made = api.create(body=deployment(0), namespace=namespace, field_manager="tool")
    assert owners(made) == {("tool", "Update")}

    # The same values are shared; another value is a conflict that names its owner.
    api.server_side_apply(body=deployment(0), namespace=namespace, field_manager="team")
    with pytest.raises(ConflictError) as refused:
        api.server_side_apply(body=deployment(1), namespace=namespace, field_manager="other")
    answer = json.loads(refused.value.body)
    conflicts = {(c["reason"], c["field"]) for c in answer["details"]["causes"]}
    assert ("FieldManagerConflict", ".spec.replicas") in conflicts, answer
    forced = api.server_side_apply(body=deployment(1), namespace=namespace, field_manager="other", force_conflicts=True)
    assert forced.spec.replicas == 1 and ("other", "Apply") in owners(forced)

    # Dry runs change nothing, on no verb.
    dry = api.server_side_apply(body=deployment(5), namespace=namespace, field_manager="other", dry_run="All")
    assert dry.spec.replicas == 5
    api.patch(name="d", namespace=namespace, body={"spec": {"replicas": 7}}, dry_run="All",
              content_type="application/merge-patch+json")
    api.delete(name="d", namespace=namespace, query_params=[("dryRun", "All")])
    assert api.get(name="d", namespace=namespace).spec.replicas == 1

    with pytest.raises(UnprocessibleEntityError):
        api.server_side_apply(body=deployment(-1), namespace=namespace, field_manager="other")


def test_a_client_side_user_moves_to_server_side_apply(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}
    text = lambda: json.dumps(manifest)
    k("apply", "-f", "-", input=text())
    k("apply", "--server-side", "-f", "-", input=text())
    shown = json.loads(k("get", "configmap", "c", "-o", "json", "--show-managed-fields"))
    managers = {(m["manager"], m["operation"]) for m in shown["metadata"]["managedFields"]}
    assert ("kubectl", "Apply") in managers and ("kubectl-client-side-apply", "Update") not in managers, managers

    # What left the manifest leaves the object: nobody else owns it any more.
    del manifest["data"]["b"]
    k("apply", "--server-side", "-f", "-", input=text())
    assert json.loads(k("get", "configmap", "c", "-o", "json"))["data"] == {"a": "1"}

    manifest["data"]["a"] = "9"
    diff = k("diff", "--server-side", "-f", "-", input=text(), check=False)
    assert '-  a: "1"' in diff and '+  a: "9"' in diff, diff
    assert "serverside-applied (server dry run)" in k("apply", "--server-side", "--dry-run=server", "-f", "-", input=text())
    assert json.loads(k("get", "configmap", "c", "-o", "json"))["data"] == {"a": "1"}
    k("label", "configmap", "c", "x=y", "--dry-run=server")
    k("delete", "configmap", "c", "--dry-run=server")
    assert k("get", "configmap", "c", "-o", "jsonpath={.metadata.labels}") == ""
