"""`kubectl debug`: a container that comes later and looks at the others."""

from pods import container, pod, pods


def test_a_debugger_sees_its_targets_processes_and_ends_alone(pods):
    pods.create(pod("target", "sleep 7777"))
    pods.ready("target")
    before = container(pods.status("target"), "c0")["containerID"]
    pods.kubectl("debug", "target", "--image=busybox", "--target=c0", "--container=look", "--image-pull-policy=IfNotPresent",
                 "--", "sh", "-c", "ps; ls /proc/1/root/bin/busybox; echo done")
    status = pods.until("target", lambda s: container(s, "look", "ephemeralContainerStatuses").get("state", {}).get("terminated"),
                        what="the debugger's end")
    look = container(status, "look", "ephemeralContainerStatuses")
    assert look["state"]["terminated"]["exitCode"] == 0 and look["restartCount"] == 0
    log = pods.logs("target", "-c", "look")
    assert "sleep 7777" in log and log.endswith("done\n")
    assert status["phase"] == "Running" and container(status, "c0")["containerID"] == before
    pods.told("target", "Started")


def test_one_attaches_to_a_debugger_with_stdin(pods):
    pods.create(pod("target", "sleep 7777"))
    pods.ready("target")
    out = pods.kubectl("debug", "target", "--image=busybox", "--container=talk", "-i", "--image-pull-policy=IfNotPresent", "--quiet",
                       "--", "head", "-n1", input="hello from outside\n")
    assert "hello from outside" in out
    pods.kubectl("delete", "pod", "target", "--timeout=20s")
