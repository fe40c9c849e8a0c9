"""Images come from a registry: Debian's, with a private certificate and a password."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "mesos_http"))
from conftest import ROOT, STOA, until
from plain import get, operator
from registry import Registry, machine

BUSYBOX = ROOT / ".stoa/images/busybox"


@pytest.fixture(scope="module")
def registry(_shared):
    base = tempfile.mkdtemp(prefix="stoa-registry-", dir="/var/tmp")
    r = Registry(f"{base}/registry")
    r.push("team/app", "v1", [BUSYBOX, {"greeting": b"one\n"}])
    r.push("team/app", "other", [BUSYBOX, {"greeting": b"other\n"}], architecture="mips")
    # The operator says once which authority signed the registry's certificate.
    (_shared.data_dir / "registries.yaml").write_text(
        f"mirrors:\n  mirrored.example:\n    endpoint: [\"https://127.0.0.1:1\", \"https://{r.host}\"]\n"
        f"configs:\n  \"{r.host}\":\n    tls:\n      ca_file: {r.ca}\n"
    )
    yield r
    r.stop()
    (_shared.data_dir / "registries.yaml").unlink()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def k(cluster, namespace, registry):
    (registry.dir / "auth.json").write_text(registry.docker_config())
    cluster.kubectl("-n", namespace, "create", "secret", "generic", "login", "--type=kubernetes.io/dockerconfigjson",
                    f"--from-file=.dockerconfigjson={registry.dir}/auth.json")
    return lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)


def pod(name, image, command="cat /greeting; sleep 3600", secrets=("login",), policy=None):
    container = {"name": "c", "image": image, "command": ["sh", "-c", command]}
    if policy:
        container["imagePullPolicy"] = policy
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], "imagePullSecrets": [{"name": s} for s in secrets]},
    }


def waiting(k, name):
    status = json.loads(k("get", "pod", name, "-o", "json"))["status"]
    return status.get("containerStatuses", [{}])[0].get("state", {}).get("waiting", {})


def events(k, name):
    found = json.loads(k("get", "events", "-o", "json", f"--field-selector=involvedObject.name={name}"))["items"]
    return [(e["reason"], e["message"]) for e in sorted(found, key=lambda e: e["metadata"]["name"])]


def says(k, name, wanted):
    """Until the log is as wanted: a container that runs has not said everything yet."""
    until(lambda: k("logs", name) == wanted, what=f"the log of {name} to be {wanted!r}")


def tells(k, name, *wanted):
    """Until there is an event of each reason with its part of a message: they come after what they tell of."""
    for reason, part in wanted:
        until(lambda: any(r == reason and part in m for r, m in events(k, name)), what=f"{reason} of {name} with {part!r}")


def test_an_operator_prunes_what_nobody_uses(cluster, namespace, registry, k):
    for name in ["kept", "unused", "excluded"]:
        registry.push("team/prune", name, [BUSYBOX, {name: b"x"}])
        cluster.apply(pod(name, f"{registry.host}/team/prune:{name}", "sleep 3600"), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/kept", "pod/unused", "pod/excluded", "--timeout=60s")
    k("delete", "pod", "unused", "excluded", "--now")
    slave = get(cluster.mesos, "/slaves")["slaves"][0]
    excluded = [{"type": "DOCKER", "docker": {"name": f"{registry.host}/team/prune:excluded"}}]

    def pruned():
        operator(slave["pid"].split("@")[1], "PRUNE_IMAGES", excluded_images=excluded)
        listed = cluster.stoa("image", "list")
        assert "team/prune:kept" in listed and "team/prune:excluded" in listed, listed
        return "team/prune:unused" not in listed

    # Of a pod that was just deleted something may be left for a moment.
    until(pruned, what="the unused image to be gone")
    assert BUSYBOX.name in cluster.stoa("image", "list"), "what no registry could give again stays"
    assert k("exec", "kept", "--", "ls", "/kept") == "/kept\n"


def test_a_pod_pulls_with_its_secret_and_says_how(cluster, namespace, registry, k):
    image = f"{registry.host}/team/app:v1"
    cluster.apply(pod("a", image), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/a", "--timeout=60s")
    says(k, "a", "one\n")
    tells(k, "a", ("Pulling", f'Pulling image "{image}"'))
    pulled = until(lambda: [m for r, m in events(k, "a") if r == "Pulled"], what="what was pulled")
    assert pulled[0].startswith(f'Successfully pulled image "{image}" in ') and "Image size: " in pulled[0], pulled
    status = json.loads(k("get", "pod", "a", "-o", "json"))["status"]["containerStatuses"][0]
    assert status["imageID"].startswith(f"{registry.host}/team/app@sha256:") and status["image"] == image
    # The node tells of it, and so does the command line.
    until(lambda: image in cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names}"), what="the image in the node's status")
    assert "team/app:v1" in cluster.stoa("image", "list")
    # The same image again is there already; a pod without the secret may not use what was pulled with it.
    cluster.apply(pod("b", image), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/b", "--timeout=30s")
    tells(k, "b", ("Pulled", "already present on machine"))
    cluster.apply(pod("thief", image, secrets=()), "-n", namespace)
    until(lambda: waiting(k, "thief").get("reason") in ("ErrImagePull", "ImagePullBackOff"), what="the refusal")
    k("delete", "pod", "a", "b", "thief", "--timeout=30s")


def test_what_cannot_be_pulled_is_told_in_the_words_people_know(cluster, namespace, registry, k):
    absent = f"{registry.host}/team/absent:v1"
    cluster.apply(pod("absent", absent), "-n", namespace)
    seen = set()
    until(lambda: seen.add(waiting(k, "absent").get("reason")) or {"ErrImagePull", "ImagePullBackOff"} <= seen,
          what="an attempt and a rest", pause=0.2)
    message = waiting(k, "absent")["message"]
    assert message.startswith(f'Back-off pulling image "{absent}": ErrImagePull: failed to pull and unpack image "{absent}"'), message
    assert "not found" in message
    tells(k, "absent", ("Pulling", absent), ("Failed", f'Failed to pull image "{absent}": '), ("Failed", "Error: ErrImagePull"),
          ("BackOff", f'Back-off pulling image "{absent}"'), ("Failed", "Error: ImagePullBackOff"))
    # Once it is pushed the next attempt has it.
    registry.push("team/absent", "v1", [BUSYBOX, {"greeting": b"late\n"}])
    k("wait", "--for=condition=Ready", "pod/absent", "--timeout=60s")

    cluster.apply(pod("nobody", f"{registry.host}/team/app:v1", secrets=("no-such",)), "-n", namespace)
    until(lambda: "pull access denied" in waiting(k, "nobody").get("message", "") or None, what="the denial")
    tells(k, "nobody", ("FailedToRetrieveImagePullSecret", ""))
    cluster.apply(pod("alien", f"{registry.host}/team/app:other"), "-n", namespace)
    until(lambda: "no match for platform" in waiting(k, "alien").get("message", ""), what="the wrong platform")
    cluster.apply(pod("never", f"{registry.host}/team/app:none", policy="Never"), "-n", namespace)
    until(lambda: waiting(k, "never").get("reason") == "ErrImageNeverPull", what="the refusal to pull")
    cluster.apply(pod("odd", f"{registry.host}/Team/app"), "-n", namespace)
    until(lambda: waiting(k, "odd").get("reason") == "InvalidImageName", what="the odd name")
    k("delete", "pod", "absent", "nobody", "alien", "never", "odd", "--timeout=30s")


def test_always_sees_what_a_tag_means_now_and_a_digest_never_moves(cluster, namespace, registry, k):
    image = f"{registry.host}/team/moving:latest"
    first = registry.push("team/moving", "latest", [BUSYBOX, {"greeting": b"first\n"}])
    cluster.apply(pod("one", image), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
    registry.push("team/moving", "latest", [BUSYBOX, {"greeting": b"second\n"}])
    cluster.apply(pod("two", image, policy="IfNotPresent"), "-n", namespace)
    cluster.apply(pod("three", image, policy="Always"), "-n", namespace)
    for name, words in [("two", ("first\n", "second\n")), ("three", ("second\n",))]:
        k("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        until(lambda: k("logs", name) in words, what="what it says")
    pinned = f"{registry.host}/team/moving@{first['digest']}"
    cluster.apply(pod("pinned", pinned), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/pinned", "--timeout=60s")
    says(k, "pinned", "first\n")
    k("delete", "pod", "one", "two", "three", "pinned", "--timeout=30s")


def test_an_index_and_a_mirror_lead_to_this_machine(cluster, namespace, registry, k):
    own = registry.push("team/multi", "own", [BUSYBOX, {"greeting": b"own\n"}])
    other = registry.push("team/multi", "mips", [{"greeting": b"mips\n"}], architecture="mips")
    registry.push_manifest("team/multi", "all", {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [dict(other, platform={"os": "linux", "architecture": "mips"}),
                      dict(own, platform={"os": "linux", "architecture": machine()})],
    })
    auth = registry.dir / "auth.json"
    out = cluster.stoa("image", "pull", f"{registry.host}/team/multi:all", "--auth-file", auth)
    assert out.startswith("pulled "), out
    cluster.apply(pod("multi", "mirrored.example/team/multi:all"), "-n", namespace)
    # The mirror is asked with what the pod has for the mirror's own name; the first endpoint does not even answer.
    k("wait", "--for=condition=Ready", "pod/multi", "--timeout=60s")
    says(k, "multi", "own\n")
    k("delete", "pod", "multi", "--timeout=30s")
    assert "untagged" in cluster.stoa("image", "remove", "mirrored.example/team/multi:all")
    until(lambda: "deleted" in remove(cluster, f"{registry.host}/team/multi:all").stdout, what="the image to be removed")


def remove(cluster, image):
    return subprocess.run([STOA, "image", "remove", image, "--data-dir", cluster.data_dir], capture_output=True, text=True)


def test_a_registry_of_unknown_authority_is_not_trusted(cluster, registry):
    done = subprocess.run([STOA, "image", "pull", f"localhost:{registry.port}/team/app:v1", "--data-dir", cluster.data_dir],
                          capture_output=True, text=True)
    assert done.returncode != 0 and "failed to resolve reference" in done.stderr, done.stderr
    assert "UnknownIssuer" in done.stderr and "http://" not in done.stderr, done.stderr
    assert f"localhost:{registry.port}" not in cluster.stoa("image", "list")


def test_an_image_in_use_is_not_removed(cluster, namespace, registry, k):
    image = f"{registry.host}/team/used:v1"
    registry.push("team/used", "v1", [BUSYBOX, {"greeting": b"used\n"}])
    cluster.apply(pod("user", image), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/user", "--timeout=60s")
    done = remove(cluster, image)
    assert done.returncode != 0 and "in use" in done.stderr
    k("delete", "pod", "user", "--timeout=30s")
    until(lambda: "deleted" in remove(cluster, image).stdout, what="the image to be removed")


def test_a_volumes_image_is_pulled_with_the_pods_secrets_and_its_own_policy(cluster, namespace, registry, k):
    image = f"{registry.host}/team/data:v1"
    first = registry.push("team/data", "v1", [{"etc/page": b"one\n"}])
    absent = f"{registry.host}/team/no-data:v1"

    def shows(name, reference, policy="Always", **mount):
        p = pod(name, "busybox", command="cat /data/etc/page /part 2>&1; sleep 3600", policy="IfNotPresent")
        p["spec"]["volumes"] = [{"name": "d", "image": {"reference": reference, "pullPolicy": policy}}]
        p["spec"]["containers"][0]["volumeMounts"] = [{"name": "d", "mountPath": "/data"},
                                                      {"name": "d", "mountPath": "/part", "subPath": "etc/page", **mount}]
        cluster.apply(p, "-n", namespace)

    shows("one", image)
    shows("lacks", absent)
    shows("never", absent, policy="Never")
    shows("part", image, policy="IfNotPresent", subPath="no/such")
    k("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
    says(k, "one", "one\none\n")
    mounts = json.loads(k("get", "pod", "one", "-o", "json"))["status"]["containerStatuses"][0]["volumeMounts"]
    shown = [m["volumeStatus"]["image"]["imageRef"] for m in mounts if m["name"] == "d"]
    assert shown == [f"{registry.host}/team/data@{first['digest']}"] * 2, mounts
    tells(k, "one", ("Pulling", f'Pulling image "{image}"'))
    until(lambda: waiting(k, "lacks").get("reason") == "ImagePullBackOff", what="the rest after a failed pull")
    assert "not found" in waiting(k, "lacks")["message"]
    until(lambda: waiting(k, "never").get("reason") == "ErrImageNeverPull", what="the refusal to pull")
    until(lambda: "subPath" in waiting(k, "part").get("message", ""), what="the missing part")
    # What is pushed later is seen by who asks for it always.
    registry.push("team/data", "v1", [{"etc/page": b"two\n"}])
    shows("two", image)
    k("wait", "--for=condition=Ready", "pod/two", "--timeout=60s")
    says(k, "two", "two\ntwo\n")
    assert k("exec", "one", "--", "cat", "/data/etc/page") == "one\n"
    k("delete", "pod", "one", "two", "lacks", "never", "part", "--timeout=30s")


def test_always_asks_the_registry_that_a_name_says_and_nobody_about_a_name_of_ones_own(cluster, namespace, registry, k, tmp_path):
    (tmp_path / "rootfs").mkdir()
    subprocess.run(["cp", "-a", f"{BUSYBOX}/.", tmp_path / "rootfs"], check=True)
    # Layers of its own, so that no other story's pod holds them.
    (tmp_path / "rootfs/by-hand").write_text("by hand")
    named, own = f"{registry.host}/team/by-hand:v1", "by-hand:v1"
    for tag in (named, own):
        cluster.stoa("image", "build", tmp_path / "rootfs", "--tag", tag)
    for name, image, policy in [("named", named, "Always"), ("own", own, "Always"), ("present", named, "IfNotPresent")]:
        cluster.apply(pod(name, image, command="sleep 3600", policy=policy), "-n", namespace)
    k("wait", "--for=condition=Ready", "pod/own", "pod/present", "--timeout=30s")
    until(lambda: waiting(k, "named").get("reason") in ("ErrImagePull", "ImagePullBackOff"), what="the registry's answer")
    assert "not found" in waiting(k, "named")["message"]
    k("delete", "pod", "named", "own", "present", "--timeout=30s")
    for tag in (named, own):
        until(lambda: remove(cluster, tag).returncode == 0, what="the image to be removed")
