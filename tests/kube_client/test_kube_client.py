"""Programs on the `kube` crate: watchers and reflectors in both ways of listing, a controller with a finalizer, server-side apply."""

import os
import pathlib
import subprocess

import pytest

from conftest import ROOT

CLIENT = pathlib.Path(os.environ.get("STOA_KUBE_CLIENT", ROOT / "target/debug/stoa-kube-client")).resolve()


@pytest.fixture(scope="session")
def client():
    """The client; `make test` has built it, and who runs the stories alone gets it built here."""
    if not CLIENT.exists():
        subprocess.run(["cargo", "build", "--locked", "-p", "stoa-kube-client"], cwd=ROOT, check=True)
    return CLIENT


@pytest.mark.parametrize("story", ["list-watch", "streaming-list", "partial", "controller", "apply", "discovery"])
def test_the_kube_crate_finds_a_stock_server(cluster, namespace, client, story):
    done = subprocess.run([client, story, namespace], env=dict(cluster.env, RUST_BACKTRACE="0"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "ok\n", done.stdout + done.stderr
