"""When a machine goes down its pods are ended in good order, and their statuses say why."""

import json
import signal

from conftest import until


def test_pods_end_in_order_when_the_power_fails(own_cluster):
    c = own_cluster
    spec = lambda command: {"terminationGracePeriodSeconds": 10, "containers": [
        {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command]}]}
    for name, code in [("p", 3), ("fine", 0)]:
        c.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                 "spec": spec(f"trap 'echo bye > /dev/termination-log; exit {code}' TERM; while true; do sleep 0.1; done")})
    c.kubectl("wait", "--for=condition=Ready", "pod/p", "pod/fine", "--timeout=30s")
    c.process.send_signal(signal.SIGPWR)
    assert c.process.wait(timeout=30) == 0
    assert not [p for p in c.processes() if " shim " in p], "nothing runs on"
    c.start().wait_node()
    status = until(lambda: (s := json.loads(c.kubectl("get", "pod", "p", "-o", "json"))["status"])["phase"] == "Failed" and s, what="the pod's end")
    assert (status["reason"], status["message"]) == ("Terminated", "Pod was terminated in response to imminent node shutdown.")
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "bye\n")
    target = lambda s: [(t["status"], t["reason"]) for t in s["conditions"] if t["type"] == "DisruptionTarget"]
    assert target(status) == [("True", "TerminationByKubelet")], status["conditions"]
    # Who used the time to end well did not fail.
    fine = json.loads(c.kubectl("get", "pod", "fine", "-o", "json"))["status"]
    assert (fine["phase"], fine.get("reason")) == ("Succeeded", None) and target(fine) == target(status)
    told = c.kubectl("get", "events", "--field-selector", "involvedObject.kind=Node,reason=Shutdown", "-o", "jsonpath={.items[*].message}")
    assert told == "Shutdown manager detected shutdown event", told
    until(lambda: c.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.conditions[?(@.type=='Ready')].status}") == "True",
          what="the node to be ready again")
