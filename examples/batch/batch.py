#!/usr/bin/env python3
"""A small Mesos framework: runs a command as N tasks, waits for all of them, prints how they ended.

Plain HTTP and nothing beyond Python's own library, so that it also shows what the v1 scheduler API looks like on the wire.
"""

import argparse
import base64
import getpass
import http.client
import json
import os
import signal
import socket
import sys
import time
import uuid

TERMINAL = {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED", "TASK_GONE"}
RECORD_BYTES_MAX = 16 << 20
# No heartbeat for this long means that the connection is dead: one is due every 15 seconds.
SILENCE_SECONDS_MAX = 60
# How often a task that was lost before it ran is tried again.
TRIES_MAX = 5


class Gone(Exception):
    """The master ended the stream or said that the framework must give up."""


def records(stream):
    """The events of a stream: RecordIO, `<length>\\n<that many bytes>`."""
    while True:
        digits = b""
        while not digits.endswith(b"\n"):
            byte = stream.read(1)
            if not byte:
                return
            digits += byte
        length = int(digits)
        if length > RECORD_BYTES_MAX:
            raise Gone(f"a record of {length} bytes")
        body = b""
        while len(body) < length:
            part = stream.read(length - len(body))
            if not part:
                return
            body += part
        yield json.loads(body)


class Framework:
    """One run: the tasks that are still to be started, and those that are under way."""

    def __init__(self, options):
        self.host, self.port = options.master
        self.options = options
        self.headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if options.principal:
            secret = os.environ.get("MESOS_SECRET", "")
            token = base64.b64encode(f"{options.principal}:{secret}".encode()).decode()
            self.headers["Authorization"] = f"Basic {token}"
        self.id = None
        self.stream_id = None
        run = uuid.uuid4().hex[:6]
        self.waiting = [f"{options.name}-{run}-{n}" for n in range(options.tasks)]
        self.tries = {}
        self.running = {}
        self.ended = {}

    # ---- the wire

    def post(self, call, headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SILENCE_SECONDS_MAX)
        connection.request("POST", "/api/v1/scheduler", json.dumps(call), headers)
        return connection, connection.getresponse()

    def subscribe(self):
        info = {
            "user": self.options.user,
            "name": self.options.name,
            "hostname": socket.gethostname(),
            "failover_timeout": 60.0,
            "role": self.options.role,
        }
        if self.options.principal:
            info["principal"] = self.options.principal
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        if self.id:
            info["id"] = call["framework_id"] = {"value": self.id}
        connection, answer = self.post(call, self.headers)
        if answer.status != 200:
            raise Gone(f"the master refused the subscription: {answer.status} {answer.read().decode()}")
        self.stream_id = answer.headers["Mesos-Stream-Id"]
        return connection, answer

    def call(self, kind, **part):
        call = {"type": kind, "framework_id": {"value": self.id}, **part}
        connection, answer = self.post(call, {**self.headers, "Mesos-Stream-Id": self.stream_id})
        text = answer.read().decode()
        connection.close()
        if answer.status not in (200, 202):
            print(f"{kind} was refused: {answer.status} {text}", file=sys.stderr)

    # ---- what happens

    def task(self, name, offer):
        def scalar(resource, value):
            return {"name": resource, "type": "SCALAR", "scalar": {"value": value}}

        return {
            "name": name,
            "task_id": {"value": name},
            "agent_id": offer["agent_id"],
            "command": {"shell": True, "value": self.options.command},
            "resources": [scalar("cpus", self.options.cpus), scalar("mem", self.options.mem)],
        }

    def on_offers(self, offers):
        for offer in offers["offers"]:
            have = {r["name"]: r["scalar"]["value"] for r in offer["resources"] if r["type"] == "SCALAR"}
            cpus, mem, tasks = have.get("cpus", 0.0), have.get("mem", 0.0), []
            # A hair of slack: scalars have three decimals, sums of binary fractions do not.
            while self.waiting and cpus + 1e-6 >= self.options.cpus and mem + 1e-6 >= self.options.mem:
                name = self.waiting.pop(0)
                self.running[name] = "TASK_STAGING"
                tasks.append(self.task(name, offer))
                cpus -= self.options.cpus
                mem -= self.options.mem
            filters = {"refuse_seconds": 1.0 if self.waiting else 3600.0}
            if tasks:
                operations = [{"type": "LAUNCH", "launch": {"task_infos": tasks}}]
                self.call("ACCEPT", accept={"offer_ids": [offer["id"]], "operations": operations, "filters": filters})
            else:
                self.call("DECLINE", decline={"offer_ids": [offer["id"]], "filters": filters})
        if not self.waiting:
            self.call("SUPPRESS")

    def on_update(self, status):
        name, state = status["task_id"]["value"], status["state"]
        if "uuid" in status:
            part = {key: status[key] for key in ("agent_id", "task_id", "uuid")}
            self.call("ACKNOWLEDGE", acknowledge=part)
        if name in self.ended or self.running.get(name) == state:
            return
        self.running[name] = state
        print(f"{name}  {state}  {status.get('message', '')}".rstrip(), flush=True)
        if state not in TERMINAL:
            return
        del self.running[name]
        tries = self.tries[name] = self.tries.get(name, 0) + 1
        if status.get("reason") == "REASON_INVALID_OFFERS" and tries < TRIES_MAX:
            # The offer was taken back while the answer was on its way: nothing ran, so it is tried again.
            self.waiting.append(name)
            self.call("REVIVE")
        else:
            self.ended[name] = state

    def follow(self):
        """Reads one connection until all is done (True) or it breaks (False)."""
        connection, stream = self.subscribe()
        try:
            for event in records(stream):
                kind = event["type"]
                if kind == "SUBSCRIBED":
                    self.id = event["subscribed"]["framework_id"]["value"]
                    print(f"subscribed as {self.id}", flush=True)
                    if self.running:
                        self.call("RECONCILE", reconcile={"tasks": []})
                elif kind == "OFFERS":
                    self.on_offers(event["offers"])
                elif kind == "UPDATE":
                    self.on_update(event["update"]["status"])
                elif kind == "ERROR":
                    raise Gone(event["error"]["message"])
                if len(self.ended) == self.options.tasks:
                    self.call("TEARDOWN")
                    return True
            return False
        finally:
            connection.close()

    def run(self):
        deadline = time.monotonic() + self.options.timeout
        while time.monotonic() < deadline:
            try:
                if self.follow():
                    return
            except (OSError, http.client.HTTPException) as e:
                print(f"connection to the master lost ({e}): trying again", file=sys.stderr)
            time.sleep(1)
        raise Gone(f"not done after {self.options.timeout} seconds")

    def stop(self):
        if self.id:
            self.call("TEARDOWN")


def address(text):
    text = text.removeprefix("http://").rstrip("/")
    host, _, port = text.partition(":")
    if not host or not (port or "5050").isdigit():
        raise argparse.ArgumentTypeError("expected host[:port]")
    return host, int(port or 5050)


def positive(kind):
    def parse(text):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("expected a number above zero")
        return value

    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--master", type=address, default=("127.0.0.1", 5050), help="host[:port]; default 127.0.0.1:5050")
    parser.add_argument("--tasks", type=positive(int), default=4, help="how many tasks; default 4")
    parser.add_argument("--command", default="echo hello from $(hostname)", help="the shell command of each task")
    parser.add_argument("--cpus", type=positive(float), default=0.1, help="CPUs of each task; default 0.1")
    parser.add_argument("--mem", type=positive(float), default=32.0, help="MiB of memory of each task; default 32")
    parser.add_argument("--name", default="batch", help="the framework's name")
    parser.add_argument("--role", default="*", help="the role whose share is used")
    parser.add_argument("--user", default=getpass.getuser(), help="as whom the tasks run; default: you")
    parser.add_argument("--principal", help="authenticate as this principal, with the secret in $MESOS_SECRET")
    parser.add_argument("--timeout", type=positive(float), default=600.0, help="give up after so many seconds")
    framework = Framework(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        framework.run()
    except Gone as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):
        framework.stop()
        return 130
    failed = sorted(name for name, state in framework.ended.items() if state != "TASK_FINISHED")
    print(f"{len(framework.ended) - len(failed)} of {len(framework.ended)} tasks finished")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
