"""A user brings a web server to the cluster with an unmodified kubectl, and looks after it."""

import json
import subprocess
import urllib.request

from conftest import KUBECTL, free_port, until


def deployment(name, replicas=2, image="web:latest", command=None, **extra):
    container = {
        "name": "web", "image": image, "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}},
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    if command:
        container["command"] = command
    container.update(extra)
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


def pods(cluster, namespace, app):
    return cluster.json("get", "pods", "-n", namespace, "-l", f"app={app}")["items"]


def test_a_deployment_is_rolled_out_scaled_updated_and_undone(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    cluster.apply(deployment("web"), "-n", namespace)
    assert "successfully rolled out" in k("rollout", "status", "deployment/web", "--timeout=60s")
    running = pods(cluster, namespace, "web")
    assert len(running) == 2
    page = urllib.request.urlopen(f"http://{running[0]['status']['podIP']}:8080/", timeout=20).read()
    assert page == b"hello from stoa\n"

    wide = k("get", "deployment", "web", "-o", "wide")
    assert wide.split()[:8] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert "2/2" in wide and "web:latest" in wide
    assert "kind: Deployment" in k("get", "deployment", "web", "-o", "yaml")

    k("scale", "deployment/web", "--replicas=3")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(pods(cluster, namespace, "web")) == 3

    k("set", "env", "deployment/web", "COLOUR=blue")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    k("set", "image", "deployment/web", "web=web:absent")
    until(lambda: "ErrImage" in (out := k("get", "pods")) or "ImagePullBackOff" in out, what="a pod whose image is absent")
    assert "web:latest" in k("get", "pods", "-o", "jsonpath={.items[*].spec.containers[*].image}"), "old pods must stay"
    history = k("rollout", "history", "deployment/web")
    assert len([l for l in history.splitlines() if l[:1].isdigit()]) >= 3, history
    k("rollout", "undo", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    live = until(
        lambda: (p := [x for x in pods(cluster, namespace, "web") if "deletionTimestamp" not in x["metadata"]])
        and len(p) == 3 and p, what="three pods",
    )
    assert {p["spec"]["containers"][0]["image"] for p in live} == {"web:latest"}

    described = k("describe", "deployment", "web")
    assert "ScalingReplicaSet" in described and "NewReplicaSetAvailable" in described
    k("delete", "deployment", "web", "--timeout=60s")
    until(lambda: not pods(cluster, namespace, "web"), what="the deployment's pods to be collected")


def test_a_recreate_deployment_never_runs_old_beside_new(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    d = deployment("solo", replicas=1)
    d["spec"]["strategy"] = {"type": "Recreate"}
    cluster.apply(d, "-n", namespace)
    k("rollout", "status", "deployment/solo", "--timeout=60s")
    first = pods(cluster, namespace, "solo")[0]["metadata"]["name"]
    k("set", "env", "deployment/solo", "A=1")
    k("rollout", "status", "deployment/solo", "--timeout=60s")
    names = [p["metadata"]["name"] for p in pods(cluster, namespace, "solo")]
    assert len(names) == 1 and first not in names


def test_labels_annotations_and_three_kinds_of_patch(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "configmap", "c", "--from-literal=a=1")
    k("label", "configmap", "c", "tier=front")
    k("annotate", "configmap", "c", "note=kept")
    k("patch", "configmap", "c", "--type=merge", "-p", json.dumps({"data": {"b": "2"}}))
    k("patch", "configmap", "c", "--type=json", "-p", json.dumps([{"op": "replace", "path": "/data/a", "value": "9"}]))
    k("patch", "configmap", "c", "--type=strategic", "-p", json.dumps({"metadata": {"labels": {"tier": None}}}))
    c = cluster.json("-n", namespace, "get", "configmap", "c")
    assert c["data"] == {"a": "9", "b": "2"}
    assert "labels" not in c["metadata"] and c["metadata"]["annotations"]["note"] == "kept"
    assert k("get", "configmap", "-l", "tier=front", "-o", "name") == ""


def test_logs_exec_and_port_forward_reach_a_pod(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "web", "image": "web", "imagePullPolicy": "IfNotPresent",
                 "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}},
                {"name": "talk", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.2; done"]},
            ],
        },
    }
    cluster.apply(pod, "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")

    follow = cluster.popen("-n", namespace, "logs", "-f", "p", "-c", "talk", stdout=subprocess.PIPE)
    assert [follow.stdout.readline() for _ in range(3)] == ["line 0\n", "line 1\n", "line 2\n"]
    follow.terminate()
    follow.wait(timeout=10)
    assert k("logs", "p", "-c", "talk", "--tail=1").startswith("line ")

    assert k("exec", "p", "-c", "talk", "--", "sh", "-c", "echo out; echo err >&2", stderr=True) == "out\nerr\n"
    assert k("exec", "-i", "p", "-c", "talk", "--", "cat", input="through standard input\n") == "through standard input\n"
    failed = cluster.popen("-n", namespace, "exec", "p", "-c", "talk", "--", "sh", "-c", "exit 7",
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert failed.wait(timeout=30) == 7
    tty = subprocess.run(
        ["script", "-qec", f"{KUBECTL} -n {namespace} exec -it p -c talk -- sh -c 'tty && stty size'", "/dev/null"],
        env=cluster.env, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
    )
    assert "/dev/pts/" in tty.stdout, tty.stdout + tty.stderr

    port = free_port()
    forward = cluster.popen("-n", namespace, "port-forward", "pod/p", f"{port}:8080", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert "Forwarding from" in forward.stdout.readline()
    for _ in range(3):
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read() == b"hello from stoa\n"
    forward.terminate()
    forward.wait(timeout=10)


def test_a_watch_shows_a_pod_come_and_go(cluster, namespace):
    # A pod that is there before: once it is shown, the list has been taken, and the watch goes on from there.
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "before"},
                   "spec": {"schedulingGates": [{"name": "example.com/never"}], "containers": [{"name": "c", "image": "busybox"}]}}, "-n", namespace)
    watch = cluster.popen("-n", namespace, "get", "pods", "-w", "--no-headers", stdout=subprocess.PIPE)
    assert watch.stdout.readline().split()[0] == "before"
    cluster.kubectl("-n", namespace, "run", "w", "--image=busybox", "--image-pull-policy=IfNotPresent",
                    "--restart=Never", "--command", "--", "sh", "-c", "exit 0")
    seen = []
    while not seen or seen[-1] != "Completed":
        name, _, status, *_ = watch.stdout.readline().split()
        if name == "w":
            seen.append(status)
    assert seen[0] == "Pending", seen
    watch.terminate()
    watch.wait(timeout=10)


def test_volumes_env_and_restarts(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "configmap", "conf", "--from-literal=greeting=hello")
    k("create", "secret", "generic", "key", "--from-literal=word=sesame")
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "v", "labels": {"who": "me"}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c",
                            "cat /conf/greeting /key/word; echo; echo $WORD $POD $(id -u); "
                            "echo kept > /scratch/f && cat /scratch/f; "
                            "test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token"],
                "env": [
                    {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}},
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "securityContext": {"runAsUser": 1234},
                "volumeMounts": [{"name": "conf", "mountPath": "/conf"}, {"name": "key", "mountPath": "/key"},
                                 {"name": "scratch", "mountPath": "/scratch"}],
            }],
            "volumes": [{"name": "conf", "configMap": {"name": "conf"}}, {"name": "key", "secret": {"secretName": "key"}},
                        {"name": "scratch", "emptyDir": {}}],
        },
    }
    cluster.apply(pod, "-n", namespace)
    k("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/v", "--timeout=30s")
    assert k("logs", "v") == "hellosesame\nsesame v 1234\nkept\ntoken\n"

    k("run", "flap", "--image=busybox", "--image-pull-policy=IfNotPresent", "--command", "--", "sh", "-c", "exit 3")
    until(lambda: "CrashLoopBackOff" in k("get", "pod", "flap"), seconds=40, what="back-off between restarts")
    status = cluster.json("-n", namespace, "get", "pod", "flap")["status"]["containerStatuses"][0]
    assert status["restartCount"] >= 1 and status["lastState"]["terminated"]["exitCode"] == 3
    assert "Back-off restarting failed container" in k("describe", "pod", "flap")


def test_a_pod_that_fits_nowhere_says_why(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("run", "huge", "--image=busybox", "--overrides",
      json.dumps({"spec": {"containers": [{"name": "huge", "image": "busybox", "resources": {"requests": {"cpu": "400"}}}]}}))
    until(lambda: "Insufficient cpu" in k("describe", "pod", "huge"), what="the reason in an event")
    k("run", "picky", "--image=busybox", "--overrides", json.dumps({"spec": {"nodeSelector": {"disk": "none"}}}))
    until(lambda: "didn't match Pod's node affinity/selector" in k("describe", "pod", "picky"), what="the reason in an event")
    condition = cluster.json("-n", namespace, "get", "pod", "huge")["status"]["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")


def test_who_may_do_what(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl(*a, **kw)
    assert k("auth", "can-i", "create", "pods").strip() == "yes"
    sa = f"system:serviceaccount:{namespace}:default"
    assert k("auth", "can-i", "list", "secrets", "-n", namespace, f"--as={sa}", check=False).strip() == "no"
    k("create", "rolebinding", "-n", namespace, "read", "--clusterrole=view", f"--serviceaccount={namespace}:default")
    assert k("auth", "can-i", "list", "pods", "-n", namespace, f"--as={sa}").strip() == "yes"
    refused = k("get", "secrets", "-n", namespace, f"--as={sa}", check=False, stderr=True)
    assert f'User "{sa}" cannot list resource "secrets" in API group "" in the namespace "{namespace}"' in refused
    resources = k("api-resources")
    for line in ("pods", "deployments", "clusterroles"):
        assert any(r.startswith(line + " ") for r in resources.splitlines()), resources
