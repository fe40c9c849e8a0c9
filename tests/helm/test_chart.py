"""A team installs its chart with an unmodified Helm 4, upgrades it, regrets that, and clears up."""

import json
import pathlib
import subprocess

from conftest import ROOT

HELM = ROOT / ".stoa/tools/bin/helm"
CHART = pathlib.Path(__file__).parent / "chart"


def helm(cluster, namespace, *args, check=True):
    done = subprocess.run(
        [HELM, "-n", namespace, *map(str, args)], env=cluster.env, capture_output=True, text=True, timeout=180
    )
    if check and done.returncode != 0:
        raise AssertionError(f"helm {args}\nout: {done.stdout}\nerr: {done.stderr}")
    return done.stdout if check else done


def replicas(cluster, namespace):
    d = cluster.json("-n", namespace, "get", "deployment", "shop")
    return d["spec"]["replicas"], d["status"].get("readyReplicas", 0)


def test_a_release_goes_through_its_life(cluster, namespace):
    h = lambda *args, **kw: helm(cluster, namespace, *args, **kw)
    k = lambda *args, **kw: cluster.kubectl("-n", namespace, *args, **kw)

    dry = h("install", "shop", CHART, "--dry-run=server")
    assert "kind: Deployment" in dry and k("get", "deployments", "-o", "name").strip() == ""

    installed = h("install", "shop", CHART, "--wait", "--timeout=90s")
    assert "STATUS: deployed" in installed and "shop is open." in installed
    assert replicas(cluster, namespace) == (1, 1)
    assert k("logs", "shop-pre").strip() == "pre 1" and k("logs", "job/shop-post").strip() == "post 1"
    assert "as ordered" in h("test", "shop", "--logs", "--timeout=60s")

    h("upgrade", "shop", CHART, "--set", "replicas=2,greeting=goodbye,extra=true", "--wait", "--timeout=90s")
    assert replicas(cluster, namespace) == (2, 2)
    assert k("get", "pdb", "shop", "-o", "name").strip() == "poddisruptionbudget.policy/shop"
    assert k("logs", "job/shop-post").strip() == "post 2"

    bad = h("upgrade", "shop", CHART, "--reuse-values", "--set", "replicas=-1", check=False)
    assert bad.returncode != 0 and "spec.replicas" in bad.stderr, bad.stderr

    h("rollback", "shop", "1", "--wait", "--timeout=90s")
    assert replicas(cluster, namespace)[0] == 1
    assert k("get", "configmap", "shop", "-o", "jsonpath={.data}") == '{"index.html":"hello"}'
    assert k("get", "pdb", "-o", "name").strip() == "", "what the first revision did not have goes"
    history = json.loads(h("history", "shop", "-o", "json"))
    assert [r["status"] for r in history][-1] == "deployed" and len(history) == 4, history

    listed = json.loads(h("list", "-o", "json"))
    assert [r["name"] for r in listed] == ["shop"]
    h("uninstall", "shop", "--wait", "--timeout=60s")
    left = k("get", "deployments,services,configmaps,secrets", "-l", "app=shop", "-o", "name").strip()
    assert left == "", left
    assert json.loads(h("list", "-o", "json")) == []
