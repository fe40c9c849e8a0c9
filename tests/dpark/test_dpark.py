"""dpark, a clone of Spark over pymesos: its word count, and the tools `drun` and `mrun` that come with it, run unmodified
by a user that is not root. Its executor is a custom one, with many tasks in one process."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from conftest import ROOT, until

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = (ROOT / ".stoa/tools/dpark").resolve()
NOBODY = 65534
TEXT = "to be or not to be\nthat is the question\nto be\n"


def as_nobody(place, *command):
    env = {"HOME": str(place), "PATH": f"{TOOLS}/bin:/usr/bin:/bin", "PYTHONPATH": str(place / "shim")}
    identity = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.Popen(
        [*identity, "env", "-i", *[f"{k}={v}" for k, v in env.items()], *map(str, command)],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


def finish(process, seconds=90):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{err}"
    return out


@pytest.fixture
def place():
    """A directory of the user's own; its programs are readable for it."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="stoa-dpark-", dir="/var/tmp"))
    shutil.copytree(HERE / "shim", base / "shim")
    shutil.copy(HERE / "word_count.py", base)
    (base / "words.txt").write_text(TEXT)
    subprocess.run(["chmod", "-R", "a+rX", base], check=True)
    os.chown(base, NOBODY, NOBODY)
    reachable = as_nobody(base, TOOLS / "bin/python", "-c", "import dpark")
    if reachable.wait(timeout=60) != 0:
        pytest.skip("this checkout is not readable for users that are not root")
    yield base
    shutil.rmtree(base)


def test_words_are_counted(cluster, place):
    done = as_nobody(place, TOOLS / "bin/python", place / "word_count.py", "-m", cluster.mesos,
                     "--words", place / "words.txt")
    out = finish(done)
    counts = dict(json.loads(out.strip().splitlines()[-1]))
    assert counts == {"to": 3, "be": 3, "or": 1, "not": 1, "that": 1, "is": 1, "the": 1, "question": 1}


def test_drun_runs_a_command_many_times_in_one_pod(cluster, place):
    command = ["sh", "-c", "echo rank $DRUN_RANK of $DRUN_SIZE; sleep 2"]
    running = as_nobody(place, TOOLS / "bin/drun", "-s", cluster.mesos, "-n", 3, "-c", 0.2, "-m", 50, *command)

    def executors():
        pods = cluster.json("get", "pods", "-A")["items"]
        return [p for p in pods if "[drun]" in p["metadata"]["annotations"].get("stoa.dev/framework-info", "")
                and p["status"].get("phase") == "Running"]

    until(lambda: len(executors()) == 1, what="the executor's pod to run")
    out = finish(running)
    assert sorted(line.split("] ")[1] for line in out.splitlines()) == [f"rank {n} of 3" for n in range(3)]


def test_mrun_starts_all_ranks_together(cluster, place):
    command = ["sh", "-c", "echo rank $PMI_RANK of $PMI_SIZE"]
    out = finish(as_nobody(place, TOOLS / "bin/mrun", "-s", cluster.mesos, "-n", 2, "-c", 0.2, "-m", 50, *command))
    assert sorted(line.split("] ")[1] for line in out.splitlines()) == ["rank 0 of 2", "rank 1 of 2"]
