"""Containers outlive the process that started them, and `stoa down` leaves nothing."""

from conftest import until


def running(c, name="keep"):
    return c.json("get", "pod", name)["status"]


def start_pod(c):
    c.kubectl("run", "keep", "--image=busybox", "--image-pull-policy=IfNotPresent",
              "--overrides", '{"spec": {"terminationGracePeriodSeconds": 1}}', "--command", "--",
              "sh", "-c", "echo started at $(cat /proc/uptime | cut -d' ' -f1); sleep 3600")
    c.kubectl("wait", "--for=condition=Ready", "pod/keep", "--timeout=30s")
    return running(c)["containerStatuses"][0]["containerID"], c.kubectl("logs", "keep")


def test_a_container_survives_kill_9_and_sigterm_of_the_whole_process(own_cluster):
    c = own_cluster
    container, log = start_pod(c)
    for end in (c.kill9, c.stop):
        end()
        c.start().wait_node()
        status = running(c)["containerStatuses"][0]
        assert status["containerID"] == container and status["restartCount"] == 0
        until(lambda: c.kubectl("logs", "keep", check=False) == log, what="the container's log")
        assert c.kubectl("exec", "keep", "--", "echo", "alive") == "alive\n"
    c.kubectl("delete", "pod", "keep", "--grace-period=1")
    until(lambda: not [p for p in c.processes() if "sleep 3600" in p], what="the container to be gone")


def test_a_pod_deleted_while_the_agent_was_away_is_swept(own_cluster):
    """Nothing runs on behalf of a pod that no longer exists; `down` and the fixture look for what is left."""
    c = own_cluster
    start_pod(c)
    c.kill9()
    c.start()
    c.kubectl("delete", "pod", "keep", "--grace-period=0", "--force")
    until(lambda: not any("shim" in p for p in c.processes()), what="the container's helper to end")
