"""Schedulers without a library: one speaks JSON, one protobuf. Sockets, chunks and records are read by hand, as the simplest clients do."""

import base64
import http.client
import json
import queue
import struct
import threading
import time


class Stream:
    """An event stream: RecordIO inside chunks, read by a thread into a queue."""

    def __init__(self, address, path, body, media_type, decode, headers=None):
        self.connection = http.client.HTTPConnection(address, timeout=120)
        self.connection.request(
            "POST", path, body, {"Content-Type": media_type, "Accept": media_type, "Connection": "close", **(headers or {})}
        )
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        assert self.response.headers["Transfer-Encoding"] == "chunked"
        self.id = self.response.headers.get("Mesos-Stream-Id")
        self.decode, self.events = decode, queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while True:
                length = b""
                while not length.endswith(b"\n"):
                    byte = self.response.read(1)
                    if not byte:
                        return
                    length += byte
                self.events.put(self.decode(self.response.read(int(length))))
        except Exception:
            return

    def close(self):
        self.connection.close()


class Json:
    """A scheduler in JSON."""

    media_type = "application/json"

    def __init__(self, address, info, auth=None, **subscribe):
        self.address, self.passed, self.auth = address, [], auth or {}
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info, **subscribe}}
        if "id" in info:
            call["framework_id"] = info["id"]
        self.stream = Stream(address, "/api/v1/scheduler", self.encode(call), self.media_type, self.read, self.auth)
        self.id = self.expect("SUBSCRIBED")["subscribed"]["framework_id"]

    def encode(self, call):
        return json.dumps(call)

    def read(self, record):
        return json.loads(record)

    def call(self, call):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        body = self.encode({**call, "framework_id": self.id})
        headers = {"Content-Type": self.media_type, "Mesos-Stream-Id": self.stream.id, **self.auth}
        connection.request("POST", "/api/v1/scheduler", body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.status in (200, 202), f"{response.status} {text}"

    def expect(self, kind, seconds=30, where=lambda event: True):
        """The next event of a kind; others are kept for whoever wants them."""
        for i, event in enumerate(self.passed):
            if event["type"] == kind and where(event):
                return self.passed.pop(i)
        deadline = time.monotonic() + seconds
        while True:
            # Heartbeats come whatever happens: the time is that of all events together.
            event = self.stream.events.get(timeout=max(deadline - time.monotonic(), 0.01))
            if event["type"] == kind and where(event):
                return event
            if event["type"] != "HEARTBEAT":
                self.passed.append(event)

    def offer(self, where=lambda offer: True):
        def has(event):
            return any(where(o) for o in event["offers"]["offers"])

        event = self.expect("OFFERS", where=has)
        return next(o for o in event["offers"]["offers"] if where(o))

    def accept(self, offer, operations, refuse=0.0):
        self.call({"type": "ACCEPT", "accept": {
            "offer_ids": [offer["id"]], "operations": operations, "filters": {"refuse_seconds": refuse}}})

    def launch(self, offer, tasks, **more):
        self.accept(offer, [{"type": "LAUNCH", "launch": {"task_infos": tasks}}], **more)

    def acknowledge(self, status):
        if "uuid" in status:
            self.call({"type": "ACKNOWLEDGE", "acknowledge": {
                "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]}})

    def wait(self, task, state, seconds=30):
        """Acknowledges updates until a task is in a state."""
        return self.wait_all({task: state}, seconds)

    def wait_all(self, states, seconds=30):
        """Acknowledges updates until every task was in its state; answers the last status."""
        left = dict(states)
        while left:
            status = self.expect("UPDATE", seconds)["update"]["status"]
            self.acknowledge(status)
            if left.get(status["task_id"]["value"]) == status["state"]:
                del left[status["task_id"]["value"]]
        return status

    def stop(self):
        self.call({"type": "TEARDOWN"})
        self.stream.close()


# ---- protobuf, by field numbers


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def text(number, value):
    raw = value if isinstance(value, bytes) else value.encode()
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def number(field, value):
    return varint(field << 3) + varint(value)


def double(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def fields(data):
    """Every field of a message as (number, value)."""
    i, out = 0, []

    def read():
        nonlocal i
        shift = value = 0
        while True:
            byte = data[i]
            i += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while i < len(data):
        tag = read()
        if tag & 7 == 0:
            out.append((tag >> 3, read()))
        elif tag & 7 == 1:
            out.append((tag >> 3, struct.unpack("<d", data[i:i + 8])[0]))
            i += 8
        else:
            length = read()
            out.append((tag >> 3, data[i:i + length]))
            i += length
    return out


def field(data, *path):
    for step in path:
        data = next((v for n, v in fields(data) if n == step), None)
        if data is None:
            return None
    return data


SUBSCRIBED, OFFERS, UPDATE = 1, 2, 4


class Protobuf:
    """A scheduler in protobuf: just enough of it to run a task."""

    media_type = "application/x-protobuf"

    def __init__(self, address, name):
        info = text(1, "root") + text(2, name) + double(4, 60.0)
        call = number(2, 1) + text(3, text(1, info))
        self.address = address
        self.stream = Stream(address, "/api/v1/scheduler", call, self.media_type, bytes)
        self.id = field(self.expect(SUBSCRIBED), 2, 1)

    def expect(self, kind, seconds=30):
        while True:
            event = self.stream.events.get(timeout=seconds)
            if field(event, 1) == kind:
                return event

    def call(self, kind, part=b""):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        body = text(1, self.id) + number(2, kind) + part
        headers = {"Content-Type": self.media_type, "Mesos-Stream-Id": self.stream.id}
        connection.request("POST", "/api/v1/scheduler", body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.status == 202, f"{response.status} {answer}"

    def run(self, task, command):
        """Launches a command on the next offer and returns the states that it goes through."""
        offer = field(self.expect(OFFERS), 3, 1)
        cpus = text(1, "cpus") + number(2, 0) + text(3, double(1, 0.1))
        mem = text(1, "mem") + number(2, 0) + text(3, double(1, 32.0))
        info = (text(1, task) + text(2, text(1, task)) + text(3, field(offer, 3)) + text(4, cpus) + text(4, mem)
                + text(7, text(3, command)))
        launch = number(1, 1) + text(2, text(1, info))
        accept = text(1, field(offer, 1)) + text(2, launch)
        self.call(3, text(4, accept))
        states = []
        while not states or states[-1] not in (2, 3):
            status = field(self.expect(UPDATE), 5, 1)
            states.append(field(status, 2) or 0)
            ack = text(1, field(status, 5)) + text(2, field(status, 1)) + text(3, field(status, 11))
            self.call(8, text(8, ack))
        return states

    def stop(self):
        self.call(2)
        self.stream.close()


# ---- the operator


def operator(address, kind, **part):
    connection = http.client.HTTPConnection(address, timeout=30)
    call = {"type": kind}
    if part:
        call[kind.lower()] = part
    connection.request("POST", "/api/v1", json.dumps(call), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    assert response.status in (200, 202), f"{kind}: {response.status} {body}"
    return json.loads(body)[kind.lower()] if body else None


def ask(address, method, path, body=None, **headers):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, response.headers, text


def get(address, path):
    status, _, body = ask(address, "GET", path)
    assert status == 200, f"{path}: {status} {body}"
    return json.loads(body)


def ports(offer):
    """All ports of an offer, in order."""
    ranges = [r for x in offer["resources"] if x["name"] == "ports" for r in x["ranges"]["range"]]
    return [p for r in ranges for p in range(int(r["begin"]), int(r["end"]) + 1)]


def port_ranges(*numbers):
    return {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": n, "end": n} for n in numbers]}}


def scalar(name, value, **more):
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def task(name, offer, command, cpus=0.1, mem=32, resources=None, **more):
    return {"name": name, "task_id": {"value": name}, "agent_id": offer["agent_id"], "command": {"value": command},
            "resources": resources or [scalar("cpus", cpus), scalar("mem", mem)], **more}


def unbase64(value):
    return base64.b64decode(value)
