"""Who sees whose processes, and which names a pod has."""

from conftest import until
from pods import container, pod, pods


def test_containers_share_processes_where_the_pod_says_so(pods):
    pods.create(pod("shared", "sleep 1111", "sleep 2222", shareProcessNamespace=True), pod("apart", "sleep 3333", "sleep 4444"))
    pods.ready("shared", "apart")
    seen = pods.sh("shared", "ps -o pid,comm,args", "c0")
    assert "sleep 1111" in seen and "sleep 2222" in seen
    assert seen.splitlines()[1].split()[:2] == ["1", "pause"]
    assert "sleep 4444" not in pods.sh("apart", "ps", "c0")
    # One container's end is its own; what ended is started again beside the other.
    pods.sh("shared", "kill $(ps -o pid,args | awk '/[s]leep 2222/{print $1}')", "c0")
    status = pods.until("shared", lambda s: container(s, "c1").get("restartCount") == 1, what="a restart")
    assert container(status, "c1")["lastState"]["terminated"]["exitCode"] == 143
    pods.ready("shared")


def test_a_pod_may_have_the_machines_processes_and_host_name(pods):
    pods.create(pod("host", "sleep 5555", hostPID=True, hostIPC=True, hostNetwork=True))
    pods.ready("host")
    node = pods.get("host")["spec"]["nodeName"]
    assert "stoa" in pods.sh("host", "cat /proc/[0-9]*/comm 2>/dev/null | sort -u")
    assert pods.sh("host", "hostname").strip() == node
    assert "Kubernetes-managed hosts file." not in pods.sh("host", "cat /etc/hosts")
    assert pods.sh("host", "cat /etc/hostname; env | grep ^HOSTNAME=").split() == [node, f"HOSTNAME={node}"]


def test_hosts_is_written_at_every_start_of_a_container(pods):
    """What a pod changes in /etc/hosts holds until a container of it starts; its resolver's file keeps what it was given."""
    waits = "until [ -e /go ]; do sleep 0.1; done"
    fixed = {"name": "fixed", "script": "sleep 1000", "securityContext": {"readOnlyRootFilesystem": True}}
    pods.create(pod("edits", waits, fixed), pod("host", waits, hostNetwork=True))
    pods.ready("edits", "host")
    written = {name: pods.sh(name, "cat /etc/hosts", "c0") for name in ("edits", "host")}
    # Another container has the same file, which it may write to although its root is read-only.
    pods.sh("edits", "echo 192.0.2.8 mine >> /etc/hosts", "fixed")
    pods.sh("host", "echo 192.0.2.8 mine >> /etc/hosts")
    for name, text in written.items():
        assert text.startswith("# Kubernetes-managed hosts file")
        assert pods.sh(name, "echo '# mine' >> /etc/resolv.conf; cat /etc/hosts; touch /go", "c0") == text + "192.0.2.8 mine\n"
        pods.until(name, lambda s: container(s, "c0").get("restartCount") == 1 and container(s, "c0")["ready"], what="a restart")
        assert pods.sh(name, "cat /etc/hosts", "c0") == text
        assert pods.sh(name, "cat /etc/resolv.conf", "c0").endswith("# mine\n")


def test_names_and_resolver(pods):
    """Host name, /etc/hosts and /etc/resolv.conf are as the spec says; a name that no kernel takes is told of."""
    spec = {
        "hostname": "web-7", "subdomain": "stage", "setHostnameAsFQDN": True,
        "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["old.example", "old"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["example.org"], "options": [{"name": "ndots", "value": "2"}]},
    }
    pods.create(pod("named", "sleep 1000", **spec), pod("long", "sleep 1000", **{**spec, "subdomain": "s" * 60}))
    pods.ready("named")
    assert pods.sh("named", "hostname").strip() == f"web-7.stage.{pods.namespace}.svc.cluster.local"
    hosts = pods.sh("named", "cat /etc/hosts")
    assert "192.0.2.9\told.example\told" in hosts and "web-7" in hosts
    assert "\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n" in hosts
    resolv = pods.sh("named", "cat /etc/resolv.conf")
    until(lambda: any("is too long (64 characters is the max" in m for _, m in pods.events("long")), what="the complaint")
    assert resolv == "search example.org\nnameserver 192.0.2.53\noptions ndots:2\n"


def test_a_command_that_cannot_be_run_is_told_of_in_a_runtimes_words(pods):
    missing = {"name": "missing", "command": ["no-such-command"]}
    denied = {"name": "denied", "command": ["/etc/passwd"]}
    pods.create(pod("ends", missing, denied, restartPolicy="Never"), pod("runs", "sleep 1000"))
    status = pods.phase("ends", "Failed")
    head = "OCI runtime create failed: unable to start container process: error during container init: "
    for name, why in [("missing", 'exec: "no-such-command": executable file not found in $PATH'), ("denied", 'exec: "/etc/passwd": permission denied')]:
        ended = container(status, name)["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"], ended["message"]) == ("StartError", 128, head + why)
    pods.ready("runs")
    said = pods.kubectl("exec", "runs", "--", "no-such-command", check=False, stderr=True)
    assert "Internal error occurred: error executing command in container: failed to exec in container: failed to start exec" in said
    assert said.rstrip().endswith('OCI runtime exec failed: exec failed: unable to start container process: exec: "no-such-command": executable file not found in $PATH')
