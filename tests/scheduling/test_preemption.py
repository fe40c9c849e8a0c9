"""A pod of high priority gets the room that was made for it, although those that gave way are replaced at once."""

import json

from conftest import until

ROOM = "stoa.dev~1seats"


def replicas(name, count, priority, seats):
    labels = {"name": name}
    amount = {"stoa.dev/seats": str(seats)}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": {
        "replicas": count, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "priorityClassName": priority, "terminationGracePeriodSeconds": 0, "containers": [{
                "name": "c", "image": "busybox:latest", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"],
                "resources": {"requests": amount, "limits": amount}}]}}}}


def test_room_that_was_made_is_kept_for_who_waits_for_it(cluster, namespace):
    c, n = cluster, ("-n", namespace)
    node = c.json("get", "nodes")["items"][0]["metadata"]["name"]
    # Whoever says that a node has more of something says so in its capacity; the node's agent lets pods use it.
    change = lambda **op: c.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(
        [{"path": f"/status/capacity/{ROOM}", **op}]))
    usable = lambda: c.json("get", "node", node)["status"]["allocatable"].get("stoa.dev/seats")
    classes = {f"{namespace}-{name}": value for name, value in (("low", 1), ("high", 1000))}
    low, high = classes
    for name, value in classes.items():
        c.kubectl("create", "priorityclass", name, f"--value={value}")
    change(op="add", value="10")
    try:
        until(lambda: usable() == "10", what="the agent to let pods use it")
        c.apply(replicas("crowd", 9, low, 1), *n)
        ready = lambda name: c.json(*n, "get", "replicaset", name)["status"].get("readyReplicas", 0)
        until(lambda: ready("crowd") == 9, what="the crowd to run")
        c.apply(replicas("guest", 1, high, 4), *n)
        until(lambda: ready("guest") == 1, what="the guest to run")
        until(lambda: ready("crowd") == 6, what="the rest of the crowd to stay")
        waiting = lambda: [p for p in c.json(*n, "get", "pods", "-l", "name=crowd")["items"] if p["status"]["phase"] == "Pending"]
        until(lambda: len(waiting()) == 3, what="those who gave way to wait")
        # Three gave way, and nobody else.
        until(lambda: len(c.json(*n, "get", "events", "--field-selector=reason=Preempted")["items"]) == 3, what="the events")
    finally:
        c.kubectl(*n, "delete", "replicaset", "--all", check=False)
        change(op="remove")
        until(lambda: usable() is None, what="nothing of it to be left")
        c.kubectl("delete", "priorityclass", *classes, check=False)
