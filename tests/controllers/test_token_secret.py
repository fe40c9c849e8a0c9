"""A token that lives as long as somebody wants it, for a client that cannot ask for new ones."""

import base64

from conftest import until


def test_a_token_secret_is_filled_speaks_for_its_account_and_goes_with_it(cluster, namespace):
    k = lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)
    k("create", "serviceaccount", "robot")
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                   "metadata": {"name": "robot-token", "annotations": {"kubernetes.io/service-account.name": "robot"}}},
                  "-n", namespace)
    secret = lambda: cluster.json("get", "secret", "robot-token", "-n", namespace)
    data = until(lambda: (d := secret().get("data", {})) and d.get("token") and d, what="a token in the secret")
    decoded = {key: base64.b64decode(value).decode() for key, value in data.items()}
    assert decoded["namespace"] == namespace and decoded["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")

    config = cluster.data_dir.parent / "robot.kubeconfig"
    config.write_text("")
    server = k("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    ca = cluster.data_dir.parent / "robot.crt"
    ca.write_text(decoded["ca.crt"])
    who = lambda: k("--kubeconfig", config, "--server", server, "--certificate-authority", ca, "--token", decoded["token"],
                    "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", check=False)
    assert who() == f"system:serviceaccount:{namespace}:robot"
    k("delete", "serviceaccount", "robot")
    until(lambda: k("get", "secret", "robot-token", "--ignore-not-found", "-o", "name") == "", what="the secret to go")
    assert "robot" not in who()
