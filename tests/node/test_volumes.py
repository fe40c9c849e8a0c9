"""What a pod finds in its volumes, and that it follows what it came from."""

import os
import tempfile

from conftest import until
from pods import container, pod, pods


def test_files_follow_their_objects_and_labels(pods):
    pods.kubectl("create", "configmap", "cm", "--from-literal=k=one", "--from-literal=other=x")
    pods.kubectl("create", "secret", "generic", "s", "--from-literal=p=hidden")
    fields = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
              {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}]
    volumes = [
        {"name": "cm", "configMap": {"name": "cm", "items": [{"key": "k", "path": "dir/k", "mode": 0o400}], "defaultMode": 0o640}},
        {"name": "gone", "configMap": {"name": "absent", "optional": True}},
        {"name": "all", "projected": {"sources": [
            {"secret": {"name": "s"}}, {"configMap": {"name": "cm", "items": [{"key": "other", "path": "other"}]}},
            {"downwardAPI": {"items": fields}}, {"serviceAccountToken": {"path": "token", "audience": "me", "expirationSeconds": 600}}]}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    pods.create(pod("files", {"name": "c", "script": "sleep 1000", "volumeMounts": mounts, "resources": {"limits": {"cpu": "250m"}}},
                    metadata={"labels": {"a": "1"}}, volumes=volumes))
    pods.ready("files")
    sh = lambda script: pods.sh("files", script)
    assert sh("cat /cm/dir/k; stat -Lc %a /cm/dir/k; ls /gone; cat /all/p /all/other /all/cpu; cat /all/labels") == "one400\nhiddenx250a=\"1\""
    assert sh("cut -d. -f2 /all/token | wc -c").strip() != "0"
    assert "Read-only file system" in pods.kubectl("exec", "files", "--", "sh", "-c", "touch /cm/y 2>&1; true")
    pods.kubectl("patch", "configmap", "cm", "-p", '{"data":{"k":"two"}}')
    pods.kubectl("label", "pod", "files", "a=2", "--overwrite")
    until(lambda: sh("cat /cm/dir/k; cat /all/labels") == "twoa=\"2\"", what="the new contents")
    pods.kubectl("create", "configmap", "absent", "--from-literal=now=here")
    until(lambda: sh("cat /gone/now 2>/dev/null; true") == "here", what="the optional object")


def test_an_images_files_are_a_volume_for_reading_only(pods):
    volumes = [{"name": "i", "image": {"reference": "web:latest", "pullPolicy": "IfNotPresent"}}]
    mounts = [{"name": "i", "mountPath": "/image"}, {"name": "i", "mountPath": "/page", "subPath": "www"}]
    pods.create(pod("shows", {"name": "c", "script": "sleep 1000", "volumeMounts": mounts}, volumes=volumes))
    pods.ready("shows")
    assert pods.sh("shows", "cat /image/www/index.html /page/index.html") == "hello from stoa\n" * 2
    assert "Permission denied" in pods.sh("shows", "/image/bin/busybox true 2>&1; true")
    assert "Read-only" in pods.sh("shows", "touch /image/x 2>&1; true")


def test_parts_of_volumes_are_named_by_expressions_and_never_leave_them(pods):
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    volumes = [{"name": "v", "emptyDir": {}}]
    part = lambda name, expression, **more: pod(name, {"name": "c", "script": "sleep 1000", "env": env, "volumeMounts": [
        {"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/part", "subPathExpr": expression}]}, volumes=volumes, **more)
    pods.create(part("plain", "$(POD)/deep"), part("unknown", "$(NOBODY)"))
    pods.ready("plain")
    assert pods.sh("plain", "echo x > /part/f; cat /v/plain/deep/f") == "x\n"
    waiting = lambda s: container(s, "c").get("state", {}).get("waiting", {})
    status = pods.until("unknown", lambda s: waiting(s).get("reason") == "CreateContainerConfigError", what="the refusal")
    assert "NOBODY" in waiting(status)["message"]


def test_a_file_systems_group_has_what_a_kubelet_gives_it(pods):
    pods.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}},
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}})
    item = {"items": [{"key": "k", "path": "d/k", "mode": 0o400}, {"key": "k", "path": "x", "mode": 0o755}, {"key": "k", "path": "y"}]}
    volumes = [
        {"name": "c", "configMap": {"name": "m", **item}}, {"name": "s", "secret": {"secretName": "s", **item}},
        {"name": "p", "projected": {"sources": [{"configMap": {"name": "m", **item}}]}},
        {"name": "w", "downwardAPI": {"items": [{"path": "d/k", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400}]}},
        {"name": "e", "emptyDir": {}}, {"name": "t", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    for name, context in [("grouped", {"securityContext": {"fsGroup": 2000}}), ("plain", {})]:
        pods.create(pod(name, {"name": "c", "script": "sleep 1000", "volumeMounts": mounts}, volumes=volumes, **context))
    pods.ready("grouped", "plain")
    listing = "for v in c s p w; do stat -c '%a %g' /$v /$v/..data/ /$v/d/ /$v/d/k; done; stat -L -c %a /c/x /c/y /e /t; stat -L -c %g /c/x /c/d /e /t"
    read = lambda name: [line.split() for line in pods.sh(name, listing).splitlines()]
    lists = lambda group, disk, memory, inner, file, rest: [
        [m, group] for top in (disk, memory, memory, memory) for m in (top, inner, inner, file)] + [[m] for m in rest] + [[group]] * 4
    assert read("plain") == lists("0", "777", "1777", "755", "400", ["755", "644", "777", "1777"])
    assert read("grouped") == lists("2000", "2777", "3777", "2755", "440", ["755", "644", "2777", "3777"])
    pods.kubectl("delete", "pod", "grouped", "plain", "--timeout=30s")


def test_memory_and_host_directories_are_as_asked(pods):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as host:
        os.chmod(host, 0o755)
        open(f"{host}/file", "w").write("host\n")
        path = lambda p, kind: {"hostPath": {"path": f"{host}/{p}", "type": kind}}
        volumes = [{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "f", **path("file", "File")},
                   {"name": "d", **path("made", "DirectoryOrCreate")}]
        mounts = [{"name": "m", "mountPath": "/m"}, {"name": "f", "mountPath": "/f", "readOnly": True}, {"name": "d", "mountPath": "/d"}]
        context = {"securityContext": {"fsGroup": 2000, "runAsUser": 1000}}
        pods.create(pod("dirs", {"name": "c", "script": "sleep 1000", "volumeMounts": mounts}, volumes=volumes, **context),
                    pod("wrong", {"name": "c", "script": "sleep 1000", "volumeMounts": [{"name": "w", "mountPath": "/w"}]},
                        volumes=[{"name": "w", **path("file", "Directory")}]))
        pods.ready("dirs")
        out = pods.sh("dirs", "cat /f; id -G; stat -c %g /m; df -k /m | tail -1 | awk '{print $2}'; head -c 2m /dev/zero > /m/x 2>&1 || echo full")
        assert out.split("\n")[:4] == ["host", "0 2000", "2000", "1024"] and "full" in out
        assert os.path.isdir(f"{host}/made")
        until(lambda: any(r == "FailedMount" and "is not a directory" in m for r, m in pods.events("wrong")), what="the complaint")
        pods.kubectl("delete", "pod", "dirs", "wrong", "--timeout=30s")
