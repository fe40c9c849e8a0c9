"""A program on the official Python client keeps its watch through a restart of the master."""

import threading

from kubernetes import client, config, watch

from conftest import until


def test_a_watch_survives_a_master_restart(own_cluster):
    c = own_cluster
    config.load_kube_config(str(c.data_dir / "kubeconfig"))
    v1 = client.CoreV1Api()
    names = []
    stop = threading.Event()

    def follow(version):
        while not stop.is_set():
            try:
                w = watch.Watch()
                for event in w.stream(v1.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=5):
                    version = event["object"].metadata.resource_version
                    if event["type"] == "ADDED":
                        names.append(event["object"].metadata.name)
            except Exception:  # the master is away: what any informer does is to connect again from where it was
                stop.wait(0.1)

    def create(name):
        v1.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name)))

    until(lambda: "kube-root-ca.crt" in c.kubectl("get", "configmaps"), what="the root certificate's config map")
    start = v1.list_namespaced_config_map("default").metadata.resource_version
    follower = threading.Thread(target=follow, args=(start,), daemon=True)
    follower.start()
    create("before")
    until(lambda: "before" in names, what="the first event")
    c.kill9()
    c.start()
    create("after")
    until(lambda: "after" in names, what="the event after the restart")
    stop.set()
    follower.join(timeout=10)
    assert names.count("before") == 1 and names.count("after") == 1, names
