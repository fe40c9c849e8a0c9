"""Variables that an init container leaves in a file of a volume (`fileKeyRef`)."""

from pods import container, pod, pods

VOLUME = {"volumes": [{"name": "config", "emptyDir": {}}]}
MOUNT = {"volumeMounts": [{"name": "config", "mountPath": "/data"}]}


def ref(name, key, path="config.env", **more):
    return {"name": name, "valueFrom": {"fileKeyRef": {"volumeName": "config", "path": path, "key": key, **more}}}


def leave(text):
    return [{"name": "setup", "script": f"printf '%b' \"{text}\" > /data/config.env; ln -s /etc /data/out", **MOUNT}]


def test_a_file_of_an_init_container_is_another_ones_environment(pods):
    show = 'echo "$DB,$LONG,${NONE-unset},${NOFILE-unset},$BOTH"; sleep 1000'
    env = [ref("DB", "DB"), ref("LONG", "LONG"), ref("NONE", "OTHER", optional=True), ref("NOFILE", "DB", "no.env", optional=True),
           {"name": "BOTH", "value": "$(DB)!"}]
    text = "# made by setup\\nDB='a b' # inline\\nLONG='1\\n2'\\n"
    # The volume need not be mounted where its file is read.
    pods.create(pod("reads", {"name": "c", "script": show, "env": env}, initContainers=leave(text), **VOLUME))
    pods.ready("reads")
    pods.says("reads", "a b,1\n2,unset,unset,a b!\n", "-c", "c")


def test_what_a_file_does_not_say_is_told_and_nothing_outside_is_read(pods):
    def refused(name, key, path="config.env", text="A='1'"):
        pods.create(pod(name, {"name": "c", "script": "sleep 1000", "env": [ref("V", key, path)]}, initContainers=leave(text), **VOLUME))

    refused("key", "B")
    refused("broken", "A", text="A=1")
    refused("outside", "root", "out/passwd")
    words = {"key": 'environment variable key "B" not found in file "config.env"', "broken": "couldn't parse env file",
             "outside": "couldn't parse env file"}
    for name, word in words.items():
        status = pods.until(name, lambda s: container(s, "c").get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError")
        assert word in container(status, "c")["state"]["waiting"]["message"], status
