"""A custom executor without a library, in protobuf: a task's data comes back with TASK_FINISHED; `hold` runs until it is killed."""

import http.client
import os
import uuid

from plain import Stream, field, fields, number, text

SUBSCRIBED, LAUNCH, KILL, ACKNOWLEDGED, SHUTDOWN = 1, 2, 3, 4, 7
RUNNING, FINISHED, KILLED = 1, 2, 4
MEDIA_TYPE = "application/x-protobuf"

address = os.environ["MESOS_AGENT_ENDPOINT"]
who = text(1, text(1, os.environ["MESOS_EXECUTOR_ID"])) + text(2, text(1, os.environ["MESOS_FRAMEWORK_ID"]))
token = {"Authorization": "Bearer " + os.environ["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"]}


def update(task, state, data=b""):
    status = (text(1, text(1, task)) + number(2, state) + (text(3, data) if data else b"") + number(9, 2)
              + text(11, uuid.uuid4().bytes))
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", "/api/v1/executor", who + number(3, 2) + text(5, text(1, status)),
                       {"Content-Type": MEDIA_TYPE, **token})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 202, (response.status, body)


stream = Stream(address, "/api/v1/executor", who + number(3, 1) + text(4, b""), MEDIA_TYPE, bytes, token)
while True:
    event = stream.events.get()
    kind = field(event, 1)
    print("event", kind, flush=True)
    if kind == LAUNCH:
        task = field(event, 4, 1)
        name, data = field(task, 2, 1), field(task, 6) or b""
        update(name, RUNNING)
        if data != b"hold":
            update(name, FINISHED, data.upper())
    elif kind == KILL:
        update(field(event, 5, 1, 1), KILLED)
    elif kind == ACKNOWLEDGED:
        print("acknowledged", field(event, 3, 1, 1).decode(), len(dict(fields(field(event, 3)))[2]), flush=True)
    elif kind == SHUTDOWN:
        break
