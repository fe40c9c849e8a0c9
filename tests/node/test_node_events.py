"""What people are told about a node, and by whom."""

from conftest import until


def told(cluster, node):
    """Reasons of the events about a node, with who said it."""
    events = cluster.json("-n", "default", "get", "events", f"--field-selector=involvedObject.kind=Node,involvedObject.name={node}")
    return {(e["source"]["component"], e["type"], e["reason"], e["message"]) for e in events["items"]}


def test_a_node_has_a_history(cluster):
    node = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    now = lambda reason: ("kubelet", "Normal", reason, f"Node {node} status is now: {reason}")
    first = {
        ("kubelet", "Normal", "Starting", "Starting kubelet."),
        ("kubelet", "Normal", "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods"),
        ("node-controller", "Normal", "RegisteredNode", f"Node {node} event: Registered Node {node} in Controller"),
        now("NodeHasSufficientMemory"), now("NodeHasNoDiskPressure"), now("NodeHasSufficientPID"), now("NodeReady"),
    }
    until(lambda: first <= told(cluster, node), what="the node's first events")
    try:
        cluster.kubectl("cordon", node)
        until(lambda: now("NodeNotSchedulable") in told(cluster, node), what="the cordon's event")
    finally:
        cluster.kubectl("uncordon", node)
    until(lambda: now("NodeSchedulable") in told(cluster, node), what="the uncordon's event")
    described = cluster.kubectl("describe", "node", node).split("\nEvents:")[1]
    for reason in ["Starting", "RegisteredNode", "NodeReady", "NodeNotSchedulable", "NodeSchedulable"]:
        assert f" {reason} " in described, described
