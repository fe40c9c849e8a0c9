"""People look into containers: they run commands, attach, copy files and read logs, with kubectl and the Python client."""

import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import threading
import time
import urllib.request

import pytest
from conftest import KUBECTL, free_port, until


def pod(name, *containers, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": dict({"terminationGracePeriodSeconds": 0, "containers": list(containers)}, **spec)}


def container(name, command, **extra):
    return dict({"name": name, "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command]}, **extra)


@pytest.fixture
def k(cluster, namespace):
    return lambda *a, **kw: cluster.kubectl("-n", namespace, *a, **kw)


def ready(cluster, namespace, *pods):
    for p in pods:
        cluster.apply(p, "-n", namespace)
    for p in pods:
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{p['metadata']['name']}", "--timeout=60s")


DIALECTS = [{}, {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}]


@pytest.mark.parametrize("dialect", DIALECTS, ids=["websocket", "spdy"])
def test_exec_carries_input_output_and_exit_codes(cluster, namespace, dialect):
    ready(cluster, namespace, pod("p", container("c", "sleep 3600")))
    run = lambda *a, **kw: subprocess.run([KUBECTL, "-n", namespace, "exec", *a], env=dict(cluster.env, **dialect),
                                          capture_output=True, timeout=60, **kw)
    done = run("p", "--", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.stdout, done.stderr.splitlines()[0], done.returncode) == (b"out\n", b"err", 42)
    assert b"command terminated with exit code 42" in done.stderr
    assert run("p", "--", "sh", "-c", "kill -9 $$").returncode == 137
    # The end of the input is seen by the command: without that, `wc` would never answer.
    noise = os.urandom(3_000_000)
    assert run("-i", "p", "--", "wc", "-c", input=noise).stdout.strip() == b"3000000"
    assert run("-i", "p", "--", "cat", input=noise).stdout == noise
    assert run("p", "--", "no-such-program").returncode != 0
    unknown = run("p", "-c", "nobody", "--", "true")
    assert unknown.returncode == 1 and b"nobody" in unknown.stderr
    # Much output to someone who is slow to read is neither lost nor piled up.
    assert len(run("p", "--", "head", "-c", "20000000", "/dev/zero").stdout) == 20_000_000


def terminal(command, env, talk):
    """Runs a command on a terminal of its own and lets `talk` speak with it; returns all it said and its exit code."""
    primary, secondary = pty.openpty()

    def own_terminal():
        # Only the session's own terminal tells of a new size.
        os.setsid()
        fcntl.ioctl(secondary, termios.TIOCSCTTY, 0)

    process = subprocess.Popen([str(c) for c in command], env=env, stdin=secondary, stdout=secondary, stderr=secondary,
                               preexec_fn=own_terminal)
    os.close(secondary)
    said = bytearray()

    def until_said(text, seconds=20):
        deadline = time.monotonic() + seconds
        while text not in said:
            assert time.monotonic() < deadline, f"{text!r} was not said: {bytes(said)!r}"
            if select.select([primary], [], [], 0.2)[0]:
                try:
                    said.extend(os.read(primary, 65536))
                except OSError:
                    break
        return bytes(said)

    try:
        talk(primary, until_said)
        code = process.wait(timeout=20)
    finally:
        process.kill()
        os.close(primary)
    return bytes(said), code


@pytest.mark.parametrize("dialect", DIALECTS, ids=["websocket", "spdy"])
def test_a_terminal_has_a_size_that_follows_the_window(cluster, namespace, dialect):
    ready(cluster, namespace, pod("p", container("c", "sleep 3600")))

    def talk(fd, until_said):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        until_said(b"# ")
        os.write(fd, b"stty size; tty\n")
        until_said(b"/dev/pts/")
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 122, 0, 0))
        os.write(fd, b"while ! stty size | grep -q '44 122'; do sleep 0.1; done; echo resized to $(stty size)\n")
        until_said(b"resized to 44 122")
        os.write(fd, b"exit 5\n")

    said, code = terminal([KUBECTL, "-n", namespace, "exec", "-it", "p", "--", "sh"], dict(cluster.env, **dialect), talk)
    assert code == 5, said


def test_attach_joins_a_running_container_and_its_terminal(cluster, namespace, k):
    ready(cluster, namespace,
          pod("plain", container("c", "while read line; do echo got $line; done; echo input ended; sleep 3600", stdin=True, stdinOnce=True)),
          pod("tty", container("c", "sh", stdin=True, tty=True)))
    attach = cluster.popen("-n", namespace, "attach", "-i", "plain", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    attach.stdin.write("one\ntwo\n")
    attach.stdin.flush()
    assert [attach.stdout.readline() for _ in range(2)] == ["got one\n", "got two\n"]
    # The first attachment's end is the end of the input, as `stdinOnce` asks.
    attach.stdin.close()
    assert attach.stdout.readline() == "input ended\n"
    attach.kill()
    attach.wait()
    assert k("logs", "plain") == "got one\ngot two\ninput ended\n"

    def talk(fd, until_said):
        os.write(fd, b"\necho I am $((40 + 2))\n")
        until_said(b"I am 42")
        os.write(fd, b"exit\n")

    said, code = terminal([KUBECTL, "-n", namespace, "attach", "-it", "tty"], cluster.env, talk)
    assert b"I am 42" in said and code == 0, said


def test_run_with_a_terminal_shows_what_the_container_says(cluster, namespace, k):
    out = subprocess.run([KUBECTL, "-n", namespace, "run", "once", "--image=busybox", "--image-pull-policy=IfNotPresent", "--rm", "-i",
                          "--restart=Never", "--quiet", "--", "sh", "-c", "read x; echo heard $x; exit 3"],
                         env=cluster.env, input="you\n", capture_output=True, text=True, timeout=60)
    assert "heard you" in out.stdout and out.returncode == 3, out
    assert k("get", "pod", "once", "--ignore-not-found") == ""


def test_files_are_copied_both_ways(cluster, namespace, k, tmp_path):
    ready(cluster, namespace, pod("p", container("c", "mkdir -p /data; sleep 3600")))
    (tmp_path / "out/deep").mkdir(parents=True)
    noise = os.urandom(2_000_000)
    (tmp_path / "out/noise").write_bytes(noise)
    (tmp_path / "out/deep/note").write_text("kept\n")
    k("cp", tmp_path / "out", "p:/data")
    assert k("exec", "p", "--", "cat", "/data/out/deep/note") == "kept\n"
    k("exec", "p", "--", "sh", "-c", "echo more > /data/out/more; ln -s /etc/passwd /data/out/link")
    k("cp", "p:/data/out", tmp_path / "back")
    assert (tmp_path / "back/noise").read_bytes() == noise
    assert (tmp_path / "back/more").read_text() == "more\n"
    assert not (tmp_path / "back/link").exists(), "a link is not followed out of the copy"
    k("cp", "p:/data/out/deep/note", tmp_path / "note")
    assert (tmp_path / "note").read_text() == "kept\n"


@pytest.mark.parametrize("dialect", DIALECTS, ids=["websocket", "spdy"])
def test_a_forwarded_port_carries_many_connections_and_half_closes(cluster, namespace, dialect):
    echo = "while true; do nc -l -p 7000 -e sh -c 'wc -c'; done"
    ready(cluster, namespace, pod("p", {"name": "web", "image": "web", "imagePullPolicy": "IfNotPresent"}, container("count", echo)))
    web, count = free_port(), free_port()
    forward = subprocess.Popen([KUBECTL, "-n", namespace, "port-forward", "pod/p", f"{web}:8080", f"{count}:7000", f"{free_port()}:9"],
                               env=dict(cluster.env, **dialect), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for _ in range(3):
            assert "Forwarding from" in forward.stdout.readline()
        pages = []
        read = lambda: pages.append(urllib.request.urlopen(f"http://127.0.0.1:{web}/", timeout=20).read())
        threads = [threading.Thread(target=read) for _ in range(20)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert pages == [b"hello from stoa\n"] * 20
        # The far end counts until our side says that it is done, and its answer still comes back.
        with socket.create_connection(("127.0.0.1", count), timeout=20) as s:
            s.sendall(b"x" * 100_000)
            s.shutdown(socket.SHUT_WR)
            assert s.makefile().read().strip() == "100000"
    finally:
        forward.terminate()
        forward.wait(timeout=10)


def test_logs_are_cut_as_asked(cluster, namespace, k):
    # kubectl asks for whole seconds only: each line has one of its own.
    talk = "for i in 1 2 3 4 5; do echo line $i; sleep 1.1; done; echo complaint >&2; sleep 3600"
    ready(cluster, namespace, pod("a", container("talk", talk), container("other", "echo from other; sleep 3600")),
          pod("b", container("talk", "echo from b; sleep 3600")))
    until(lambda: "complaint" in k("logs", "a", "-c", "talk"), what="all lines")
    lines = [f"line {i}" for i in range(1, 6)] + ["complaint"]
    assert k("logs", "a", "-c", "talk").splitlines() == lines
    assert k("logs", "a", "-c", "talk", "--tail=2").splitlines() == lines[-2:]
    assert k("logs", "a", "-c", "talk", "--tail=0") == ""
    assert k("logs", "a", "-c", "talk", "--limit-bytes=10") == "line 1\nlin"
    stamped = k("logs", "a", "-c", "talk", "--timestamps").splitlines()
    times, texts = zip(*(l.split(" ", 1) for l in stamped))
    assert list(texts) == lines and list(times) == sorted(times) and times[0].endswith("Z")
    assert k("logs", "a", "-c", "talk", f"--since-time={times[3]}").splitlines() == lines[3:]
    assert k("logs", "a", "-c", "talk", "--since=1h").splitlines() == lines
    time.sleep(1.2)
    assert k("logs", "a", "-c", "talk", "--since=1s") == ""
    # Without a name kubectl takes the first container; with a prefix it says which one speaks.
    assert k("logs", "a").splitlines() == lines
    both = k("logs", "a", "--all-containers", "--prefix").splitlines()
    assert "[pod/a/other] from other" in both and "[pod/a/talk] line 1" in both
    assert set(k("logs", "-l", "app in (a,b)", "--all-containers", "--tail=-1").splitlines()) == set(lines) | {"from other", "from b"}
    missing = k("logs", "a", "-c", "nobody", check=False, stderr=True)
    assert "container nobody is not valid for pod a" in missing


def test_a_previous_life_has_its_own_log(cluster, namespace, k):
    cluster.apply(pod("p", container("c", "echo life $(cat /proc/sys/kernel/random/uuid); exit 1")), "-n", namespace)
    until(lambda: json.loads(k("get", "pod", "p", "-o", "json"))["status"]["containerStatuses"][0]["restartCount"] >= 1,
          seconds=40, what="a restart")
    until(lambda: k("logs", "p", check=False).startswith("life "), what="the new life's line")
    now, before = k("logs", "p"), k("logs", "p", "--previous")
    assert now.startswith("life ") and before.startswith("life ") and now != before
    ready(cluster, namespace, pod("calm", container("c", "sleep 3600")))
    assert 'previous terminated container "c" in pod "calm" not found' in k("logs", "calm", "--previous", check=False, stderr=True)


def test_the_python_client_runs_a_command(cluster, namespace):
    from kubernetes import client, config
    from kubernetes.stream import stream
    ready(cluster, namespace, pod("p", container("c", "sleep 3600")))
    config.load_kube_config(str(cluster.data_dir / "kubeconfig"))
    core = client.CoreV1Api()
    call = lambda command, **kw: stream(core.connect_get_namespaced_pod_exec, "p", namespace, command=command, stdout=True, stderr=True, **kw)
    assert call(["echo", "hello"], stdin=False, tty=False) == "hello\n"
    session = call(["sh"], stdin=True, tty=False, _preload_content=False)
    session.write_stdin("echo to out; echo to err >&2; exit 6\n")
    session.run_forever(timeout=20)
    assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("to out\n", "to err\n", 6)
    session.close()
    binary = call(["cat", "/proc/self/cmdline"], stdin=False, tty=False, binary=True)
    assert binary == b"cat\0/proc/self/cmdline\0"


def test_a_follower_sees_every_line_over_rotations_and_a_restart_of_the_agent(own_cluster):
    c = own_cluster
    c.stop()
    c.start("--log-bytes-max", "65536", "--log-files-max", "3").wait_node()
    count = "i=0; while [ $i -lt 6000 ]; do echo line $i of a log that is rotated more than once; i=$((i+1)); done; echo done; sleep 3600"
    c.apply(pod("p", container("c", count)))
    c.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    until(lambda: c.kubectl("logs", "p", "--tail=1") == "done\n", what="the last line")
    lines = c.kubectl("logs", "p").splitlines()
    # What is kept is the end of it, without a gap: three files of 64 KiB, the oldest gone.
    numbers = [int(l.split()[1]) for l in lines[:-1]]
    assert numbers == list(range(numbers[0], 6000)) and numbers[0] > 0 and len(numbers) > 500
    logs = [f for d, _, files in os.walk(c.data_dir / "agent/logs") for f in files if ".log" in f and "/c" in d]
    assert len(logs) == 3, logs
    c.kill9()
    c.start("--log-bytes-max", "65536", "--log-files-max", "3").wait_node()
    until(lambda: c.kubectl("logs", "p", check=False).splitlines() == lines, what="the same log after a restart")
    slow = "for i in 1 2 3; do echo tick $i; sleep 1; done; sleep 3600"
    c.apply(pod("q", container("c", slow)))
    c.kubectl("wait", "--for=condition=Ready", "pod/q", "--timeout=30s")
    follow = c.popen("logs", "-f", "q", stdout=subprocess.PIPE)
    assert [follow.stdout.readline() for _ in range(3)] == ["tick 1\n", "tick 2\n", "tick 3\n"]
    follow.kill()
    follow.wait()
