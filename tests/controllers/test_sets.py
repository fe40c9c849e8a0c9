"""What makes pods, other than deployments: sets of daemons, sets of pods with names, and the oldest kind of set."""

import json

from conftest import until


def template(name, **spec):
    container = {
        "name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}},
    }
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


def workload(kind, name, **spec):
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name), **spec},
    }


def pods(cluster, namespace, app):
    items = cluster.json("get", "pods", "-n", namespace, "-l", f"app={app}")["items"]
    return {p["metadata"]["name"]: p for p in items}


def live(cluster, namespace, app):
    return {n: p for n, p in pods(cluster, namespace, app).items() if "deletionTimestamp" not in p["metadata"]}


def test_a_daemon_runs_on_every_node_is_updated_undone_and_revived(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    nodes = len(cluster.json("get", "nodes")["items"])
    cluster.apply(workload("DaemonSet", "log"), "-n", namespace)
    assert "successfully rolled out" in k("rollout", "status", "daemonset/log", "--timeout=60s")
    first = pods(cluster, namespace, "log")
    assert len(first) == nodes
    assert k("get", "daemonset", "log", "--no-headers").split()[1:6] == [str(nodes)] * 5

    k("set", "env", "daemonset/log", "COLOUR=blue")
    k("rollout", "status", "daemonset/log", "--timeout=60s")
    second = live(cluster, namespace, "log")
    assert len(second) == nodes and not set(first) & set(second)
    history = k("rollout", "history", "daemonset/log")
    assert [l.split()[0] for l in history.splitlines() if l[:1].isdigit()] == ["1", "2"], history
    assert "COLOUR" in k("rollout", "history", "daemonset/log", "--revision=2")
    assert "skipped rollback" in k("rollout", "undo", "daemonset/log", "--to-revision=2")
    k("rollout", "undo", "daemonset/log")
    k("rollout", "status", "daemonset/log", "--timeout=60s")
    third = live(cluster, namespace, "log")
    assert all("env" not in p["spec"]["containers"][0] for p in third.values())
    history = k("rollout", "history", "daemonset/log")
    assert [l.split()[0] for l in history.splitlines() if l[:1].isdigit()] == ["2", "3"], history

    victim = next(iter(third))
    k("patch", "pod", victim, "--subresource=status", "-p", json.dumps({"status": {"phase": "Failed"}}))
    until(lambda: (p := live(cluster, namespace, "log")) and len(p) == nodes and victim not in p, what="a pod in its place")
    k("rollout", "status", "daemonset/log", "--timeout=60s")

    k("patch", "daemonset", "log", "-p", json.dumps({"spec": {"template": {"spec": {"nodeSelector": {"colour": "none"}}}}}))
    until(lambda: not live(cluster, namespace, "log"), what="no pod where none belongs")
    until(lambda: cluster.json("get", "daemonset", "log", "-n", namespace)["status"]["desiredNumberScheduled"] == 0,
          what="a status without wanted pods")


def test_a_stateful_set_keeps_order_names_and_revisions(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "service", "clusterip", "db", "--clusterip=None")
    db = workload("StatefulSet", "db", replicas=3, serviceName="db")
    # Ready only when it is told so: the order is ours to see.
    db["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    cluster.apply(db, "-n", namespace)
    ready = lambda n: until(lambda: k("exec", f"db-{n}", "--", "touch", "/tmp/ready", check=False, stderr=True) == "",
                            what=f"db-{n} to run")
    until(lambda: set(pods(cluster, namespace, "db")) == {"db-0"}, what="the first pod")
    ready(0)
    until(lambda: set(pods(cluster, namespace, "db")) == {"db-0", "db-1"}, what="the second pod once the first is ready")
    ready(1)
    ready(2)
    until(lambda: k("get", "statefulset", "db", "--no-headers").split()[1] == "3/3", what="three ready pods")
    one = pods(cluster, namespace, "db")["db-1"]
    assert one["spec"]["hostname"] == "db-1" and one["spec"]["subdomain"] == "db"
    assert one["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"

    k("scale", "statefulset/db", "--replicas=1")
    until(lambda: set(pods(cluster, namespace, "db")) == {"db-0"}, what="scaling down from the highest ordinal")

    # Without the probe a change goes through by itself.
    k("patch", "statefulset", "db", "--type=json", "-p",
      json.dumps([{"op": "remove", "path": "/spec/template/spec/containers/0/readinessProbe"},
                  {"op": "replace", "path": "/spec/replicas", "value": 2}]))
    assert "roll out complete: 2 new pods" in k("rollout", "status", "statefulset/db", "--timeout=60s")
    status = cluster.json("get", "statefulset", "db", "-n", namespace)["status"]
    assert status["currentRevision"] == status["updateRevision"]
    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"], status["updatedReplicas"]) == (2, 2, 2, 2)

    k("patch", "statefulset", "db", "-p", json.dumps({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}))
    k("set", "env", "statefulset/db", "COLOUR=blue")
    assert "roll out complete: 1 new pods" in k("rollout", "status", "statefulset/db", "--timeout=60s")
    coloured = {n: "env" in p["spec"]["containers"][0] for n, p in live(cluster, namespace, "db").items()}
    assert coloured == {"db-0": False, "db-1": True}
    k("delete", "pod", "db-0")
    k("wait", "--for=condition=Ready", "pod/db-0", "--timeout=30s")
    assert "env" not in pods(cluster, namespace, "db")["db-0"]["spec"]["containers"][0], "held back by the partition"
    k("rollout", "undo", "statefulset/db")
    until(lambda: "env" not in (p := live(cluster, namespace, "db").get("db-1", {})).get("spec", {"containers": [{"env": 1}]})["containers"][0],
          what="the change to be undone")
    revisions = [l for l in k("rollout", "history", "statefulset/db").splitlines() if l[:1].isdigit()]
    assert len(revisions) == 3, revisions


def test_claims_go_with_their_set_where_the_policy_says_so(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none-such",
                                                      "resources": {"requests": {"storage": "1Mi"}}}}
    cluster.apply(workload("StatefulSet", "kept", replicas=1, serviceName="x", volumeClaimTemplates=[claim]), "-n", namespace)
    cluster.apply(workload("StatefulSet", "gone", replicas=1, serviceName="x", volumeClaimTemplates=[claim],
                           persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"}), "-n", namespace)
    claims = lambda: set(k("get", "pvc", "-o", "name").split())
    both = {f"persistentvolumeclaim/data-{s}-0" for s in ("kept", "gone")}
    until(lambda: claims() == both, what="a claim for each pod")
    k("delete", "statefulset", "kept", "gone", "--timeout=60s")
    until(lambda: claims() == {"persistentvolumeclaim/data-kept-0"}, what="the claim to go with its set")


def test_a_replication_controller_says_what_keeps_it_from_its_pods(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "quota", "two", "--hard=pods=2")
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray", "labels": {"app": "old"}},
                   "spec": template("old")["spec"]}, "-n", namespace)
    cluster.apply({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old"},
                   "spec": {"replicas": 3, "selector": {"app": "old"}, "template": template("old")}}, "-n", namespace)
    conditions = lambda: cluster.json("get", "rc", "old", "-n", namespace)["status"].get("conditions", [])
    failure = until(lambda: [c for c in conditions() if c["type"] == "ReplicaFailure"], what="a failure in the status")[0]
    assert failure["status"] == "True" and failure["reason"] == "FailedCreate" and "exceeded quota" in failure["message"]
    found = pods(cluster, namespace, "old")
    assert len(found) == 2 and found["stray"]["metadata"]["ownerReferences"][0]["kind"] == "ReplicationController"
    k("scale", "rc/old", "--replicas=2")
    until(lambda: not conditions(), what="the failure to be forgotten")
    k("label", "pod", "stray", "app=free", "--overwrite")
    until(lambda: "ownerReferences" not in cluster.json("get", "pod", "stray", "-n", namespace)["metadata"], what="the pod to be let go")
    k("delete", "pod", "stray")
    until(lambda: len(live(cluster, namespace, "old")) == 2, what="another pod in its place")
