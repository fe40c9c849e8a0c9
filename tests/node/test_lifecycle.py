"""How containers of a pod begin, live and end, in which order, and what is told of it."""

import json
import pathlib
import subprocess
import tempfile
import time

from conftest import until
from pods import condition, container, pod, pods

SHARED = {"volumes": [{"name": "v", "emptyDir": {}}]}
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}


def say(word, then="sleep 1000"):
    """Notes when it starts and when it is asked to stop."""
    return f"echo +{word} >> /v/log; trap 'echo -{word} >> /v/log; exit 0' TERM; {then} & wait"


def test_sidecars_start_before_and_stop_after_what_they_serve(pods):
    """Also: init containers run one after another, and a hook is over before the next container starts."""
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "sleep 0.7; echo hook >> /v/log"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo pre >> /v/log"]}}}
    startup = {"exec": {"command": ["test", "-e", "/v/up"]}, "periodSeconds": 1}
    base = tempfile.TemporaryDirectory(dir="/var/tmp")
    volumes = [{"name": "v", "hostPath": {"path": base.name}}]
    pods.create(pod(
        "order",
        {"name": "a", "script": say("a"), "lifecycle": hook, **MOUNT}, {"name": "b", "script": say("b"), **MOUNT},
        initContainers=[
            {"name": "i", "script": "sleep 0.3; echo i >> /v/log", **MOUNT},
            {"name": "s1", "restartPolicy": "Always", "script": "sleep 0.5; touch /v/up; " + say("s1"), "startupProbe": startup, **MOUNT},
            {"name": "j", "script": "echo j >> /v/log", **MOUNT},
            {"name": "s2", "restartPolicy": "Always", "script": say("s2"), **MOUNT},
        ],
        volumes=volumes, terminationGracePeriodSeconds=10,
    ))
    pods.ready("order")
    log = pathlib.Path(base.name) / "log"
    until(lambda: log.read_text().split() == ["i", "+s1", "j", "+s2", "+a", "hook", "+b"], what="all in their order")
    status = pods.status("order")
    assert [c["name"] for c in status["initContainerStatuses"]] == ["i", "s1", "j", "s2"]
    assert container(status, "s1", "initContainerStatuses")["started"] is True
    begun = time.monotonic()
    pods.kubectl("delete", "pod", "order", "--timeout=30s")
    assert time.monotonic() - begun < 9
    end = log.read_text().split()[7:]
    # The first container's hook and the second's end are not ordered among each other.
    assert sorted(end[:3]) == ["-a", "-b", "pre"] and end.index("pre") < end.index("-a") and end[3:] == ["-s2", "-s1"], end
    base.cleanup()


def test_rules_of_a_container_decide_about_its_restart(pods):
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    script = "n=$(cat /v/n 2>/dev/null || echo 0); echo $((n+1)) > /v/n; [ $n -ge 1 ] && exit 3; exit 42"
    pods.create(pod("rules", {"name": "c", "script": script, "restartPolicy": "Never", "restartPolicyRules": rules, **MOUNT},
                    **SHARED, restartPolicy="Never"))
    status = pods.phase("rules", "Failed")
    c = container(status, "c")
    assert (c["restartCount"], c["state"]["terminated"]["exitCode"], c["lastState"]["terminated"]["exitCode"]) == (1, 3, 42)


def test_a_rule_sends_the_whole_pod_back_to_its_beginning(pods):
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /v/log"]}}}
    script = "echo a >> /v/log; [ $(grep -c a /v/log) -ge 2 ] && sleep 1000; exit 42"
    pods.create(pod("back", {"name": "a", "script": script, "restartPolicy": "Never", "restartPolicyRules": rules, **MOUNT},
                    {"name": "b", "script": "sleep 1000", "lifecycle": hook, **MOUNT},
                    initContainers=[{"name": "i", "script": "echo i >> /v/log", **MOUNT}], **SHARED, restartPolicy="Never"))
    again = lambda s: s.get("phase") == "Running" and all(
        c["restartCount"] == 1 for c in s["containerStatuses"] + s["initContainerStatuses"]) and container(s, "b").get("ready")
    status = pods.until("back", again)
    last = container(status, "a")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "RestartingAllContainers")
    assert condition(status, "AllContainersRestarting")["status"] == "False"
    # The volume and the address are the same, and no hook was run.
    assert pods.sh("back", "cat /v/log", "b").split() == ["i", "a", "i", "a"]


def test_last_words_come_from_their_file_or_from_the_log(pods):
    words = lambda name, script, **more: pod(name, {"name": "c", "script": script, **more}, restartPolicy="Never")
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    pods.create(
        words("file", "printf done > /dev/termination-log"),
        words("own", "printf DONE > /last/words; exit 1", terminationMessagePath="/last/words", securityContext={"runAsUser": 1000}),
        words("log", "echo first; echo the end; exit 1", **fallback),
        words("bare", "printf 'no newline'; exit 1", **fallback),
        words("fine", "echo chatter", **fallback),
    )
    message = lambda s: container(s, "c")["state"]["terminated"].get("message")
    assert message(pods.phase("file", "Succeeded")) == "done"
    assert message(pods.phase("own", "Failed")) == "DONE"
    assert message(pods.phase("log", "Failed")) == "first\nthe end\n"
    assert message(pods.phase("bare", "Failed")) == "no newline"
    fine = pods.phase("fine", "Succeeded")
    assert message(fine) is None and condition(fine, "Ready")["reason"] == "PodCompleted"


def test_whoever_watches_a_crashing_pod_sees_every_end(pods):
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 3"]}}}
    for name, c, words in [
        ("crash", {"script": "exit 3"}, "Error"), ("absent", {"command": ["/no/such/command"]}, "RunContainerError"),
        ("hooked", {"script": "trap 'exit 0' TERM; sleep 1000 & wait", "lifecycle": hook}, "PostStartHookError"),
    ]:
        # From a moment before there is a pod: a watch that begins later may miss its ends.
        path = f"/api/v1/namespaces/{pods.namespace}/pods"
        since = json.loads(pods.kubectl("get", "--raw", path))["metadata"]["resourceVersion"]
        pods.create(pod(name, {"name": "c", **c}))
        asked = f"{path}?watch=1&timeoutSeconds=60&resourceVersion={since}&fieldSelector=metadata.name={name}"
        with pods.cluster.popen("get", "--raw", asked, stdout=subprocess.PIPE) as watch:
            seen = []
            # The second end is followed by a rest.
            while seen[-1:] != [["CrashLoopBackOff", 1]]:
                line = watch.stdout.readline()
                assert line, seen
                now = container(json.loads(line)["object"]["status"], "c")
                reasons = [state["reason"] for state in now.get("state", {}).values() if "reason" in state]
                seen.append([*reasons, now.get("restartCount")])
            watch.terminate()
        assert seen[-2] == [words, 1], seen


def test_a_crashing_container_rests_and_a_deadline_ends_a_pod(pods):
    pods.create(pod("crash", "exit 1"), pod("late", "sleep 1000", activeDeadlineSeconds=2))
    status = pods.until("crash", lambda s: container(s, "c0").get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff")
    waiting = container(status, "c0")["state"]["waiting"]["message"]
    assert waiting.startswith("back-off 10s restarting failed container=c0 pod=crash_"), waiting
    assert container(status, "c0")["restartCount"] == 1
    pods.told("crash", "BackOff")
    status = pods.phase("late", "Failed")
    assert (status["reason"], container(status, "c0")["state"]["terminated"]["exitCode"]) == ("DeadlineExceeded", 137)


def test_probes_decide_about_readiness_and_life(pods):
    exec_ = lambda script: {"exec": {"command": ["sh", "-c", script]}}
    quick = {"periodSeconds": 1, "failureThreshold": 1}
    pods.create(
        pod("flips", {"name": "c", "script": "touch /ok; sleep 1000", "readinessProbe": {**exec_("test -e /ok"), **quick}}),
        pod("sick", {"name": "c", "script": "sleep 1000", "livenessProbe": {**exec_("exit 1"), **quick, "terminationGracePeriodSeconds": 1}}),
        # What cannot be asked is no answer.
        pod("odd", {"name": "c", "script": "sleep 1000", "livenessProbe": {"exec": {"command": ["/no/such"]}, **quick},
                    "readinessProbe": {"httpGet": {"port": "web"}, **quick}}),
        pod("http", {"name": "c", "script": "mkdir /w; echo hi > /w/x; httpd -f -p 80 -h /w", "ports": [{"name": "web", "containerPort": 80}],
                     "readinessProbe": {"httpGet": {"path": "/x", "port": "web"}, **quick}, "livenessProbe": {"tcpSocket": {"port": 80}, **quick, "initialDelaySeconds": 1}}),
    )
    pods.ready("flips", "http")
    pods.sh("flips", "rm /ok")
    status = pods.until("flips", lambda s: condition(s, "Ready")["status"] == "False", what="not ready")
    assert condition(status, "Ready")["reason"] == "ContainersNotReady" and container(status, "c")["restartCount"] == 0
    pods.until("sick", lambda s: container(s, "c").get("restartCount", 0) >= 1, what="a restart")
    pods.told("sick", "Unhealthy", "Killing")
    assert container(pods.status("http"), "c")["restartCount"] == 0
    words = 'Readiness probe errored and resulted in unknown state: strconv.Atoi: parsing "web": invalid syntax'
    asked = "Liveness probe errored and resulted in unknown state: "
    until(lambda: (said := pods.events("odd")) and ("Unhealthy", words) in said and any(m.startswith(asked) for _, m in said), what="what is odd")
    assert container(pods.status("odd"), "c")["restartCount"] == 0
    counts = pods.kubectl("get", "--raw", f"/api/v1/nodes/{pods.get('http')['spec']['nodeName']}/proxy/metrics/probes")
    of = lambda name, kind, result: f'prober_probe_total{{container="c",namespace="{pods.namespace}",pod="{name}",pod_uid="{pods.get(name)["metadata"]["uid"]}",probe_type="{kind}",result="{result}"}} '
    assert of("flips", "Readiness", "failed") in counts and of("http", "Readiness", "successful") in counts
    assert of("sick", "Liveness", "failed") in counts and 'pod="odd"' not in counts


def test_a_gate_holds_readiness_back_until_somebody_opens_it(pods):
    pods.create(pod("gated", "sleep 1000", readinessGates=[{"conditionType": "example.com/open"}]))
    status = pods.until("gated", lambda s: condition(s, "ContainersReady").get("status") == "True")
    assert condition(status, "Ready")["reason"] == "ReadinessGatesNotReady"
    patch = '{"status":{"conditions":[{"type":"example.com/open","status":"True"}]}}'
    pods.kubectl("patch", "pod", "gated", "--subresource=status", "-p", patch)
    pods.ready("gated")
