"""Small pods and what stories ask of them."""

import pytest

from conftest import until


def pod(name, *containers, **spec):
    """A pod that ends quickly; containers are shell scripts or whole container objects."""
    made = []
    for i, c in enumerate(containers):
        c = {"name": f"c{i}", "script": c} if isinstance(c, str) else dict(c)
        if "script" in c:
            c["command"] = ["sh", "-c", c.pop("script")]
        made.append({"image": "busybox", "imagePullPolicy": "IfNotPresent", **c})
    init = []
    for c in spec.pop("initContainers", []):
        c = dict(c)
        if "script" in c:
            c["command"] = ["sh", "-c", c.pop("script")]
        init.append({"image": "busybox", "imagePullPolicy": "IfNotPresent", **c})
    metadata = {"name": name, **spec.pop("metadata", {})}
    base = {"terminationGracePeriodSeconds": 1, "containers": made}
    if init:
        base["initContainers"] = init
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**base, **spec}}


class Pods:
    """The pods of one namespace."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def kubectl(self, *args, **kwargs):
        return self.cluster.kubectl("-n", self.namespace, *args, **kwargs)

    def create(self, *manifests):
        for m in manifests:
            self.cluster.apply(m, "-n", self.namespace)

    def get(self, name):
        return self.cluster.json("-n", self.namespace, "get", "pod", name)

    def status(self, name):
        return self.get(name).get("status", {})

    def ready(self, *names, seconds=30):
        self.kubectl("wait", "--for=condition=Ready", *[f"pod/{n}" for n in names], f"--timeout={seconds}s")

    def phase(self, name, phase, seconds=30):
        self.kubectl("wait", f"--for=jsonpath={{.status.phase}}={phase}", f"pod/{name}", f"--timeout={seconds}s")
        return self.status(name)

    def until(self, name, condition, seconds=30, what="the status"):
        """Until the status is as wanted; gives it."""
        last = {}

        def holds():
            last["status"] = self.status(name)
            return condition(last["status"])

        try:
            until(holds, seconds=seconds, what=what, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{last.get('status')}") from None
        return last["status"]

    def logs(self, name, *args):
        return self.kubectl("logs", name, *args)

    def says(self, name, wanted, *args):
        """Until the log is as wanted: a container that runs has not said everything yet."""
        until(lambda: self.logs(name, *args) == wanted, what=f"the log of {name} to be {wanted!r}")

    def sh(self, name, script, container=None, check=True):
        where = ["-c", container] if container else []
        return self.kubectl("exec", name, *where, "--", "sh", "-c", script, check=check)

    def events(self, name):
        found = self.cluster.json("-n", self.namespace, "get", "events", f"--field-selector=involvedObject.name={name}")
        return {(e["reason"], e.get("message", "")) for e in found["items"]}

    def told(self, name, *reasons):
        """Until there is an event of each reason: they come after what they tell of."""
        until(lambda: set(reasons) <= {reason for reason, _ in self.events(name)}, what=f"{reasons} of {name}")


def container(status, name, kind="containerStatuses"):
    return next((c for c in status.get(kind, []) if c["name"] == name), {})


def condition(status, kind):
    return next((c for c in status.get("conditions", []) if c["type"] == kind), {})


@pytest.fixture
def pods(cluster, namespace):
    """The pods of the story's own namespace."""
    return Pods(cluster, namespace)
