"""`hostUsers: false`: root of a pod is nobody on the machine."""

from pods import pod, pods

VOLUMES = [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cm"}}]
MOUNTS = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in VOLUMES]


def test_a_pods_root_owns_its_files_and_nothing_else(pods):
    pods.kubectl("create", "configmap", "cm", "--from-literal=k=v")
    pods.create(pod("own", {"name": "c", "script": "httpd -f -p 80 -h /", "volumeMounts": MOUNTS}, hostUsers=False, volumes=VOLUMES,
                    securityContext={"fsGroup": 200}),
                pod("plain", "sleep 1000"))
    pods.ready("own", "plain")
    first = int(pods.sh("own", "cat /proc/self/uid_map").split()[1])
    assert first >= 65536 and pods.sh("plain", "cat /proc/self/uid_map").split() == ["0", "0", "4294967295"]
    out = pods.sh("own", "id -u; stat -c %u /bin/sh /etc/hosts /c/k; cat /c/k; touch /e/x /new && stat -c %u:%g /e/x; echo y >> /etc/hosts && echo ok")
    assert out == "0\n0\n0\n0\nv0:200\nok\n"
    pids = pods.sh("own", "for p in /proc/[0-9]*; do cat $p/cmdline 2>/dev/null | grep -q httpd && echo $p; done")
    assert pids, "the command is not seen"
    assert pods.sh("own", "echo probe > /e/f; cat /e/f") == "probe\n"
    pods.kubectl("delete", "pod", "own", "--timeout=20s")
