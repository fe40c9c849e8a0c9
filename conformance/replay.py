#!/usr/bin/env python3
"""Replays a file of requests against any Kubernetes API server and compares what it answers with what is written there.

    conformance/replay.py --kubeconfig FILE CASES...            compare; exit 1 if an answer differs
    conformance/replay.py --kubeconfig FILE --record OUT CASES  write the answers of this server instead
    conformance/replay.py --kubeconfig A --against B CASES      compare two servers with each other

A case is a line of JSON: {"name", "request": {"method", "path", "contentType", "accept", "body"}, "status", "response"}, and
optionally "warnings" and "managedFields". What differs from run to run (uids, times, versions, drawn addresses) is made
equal on both sides; keys that a case's "ignore" names are left out. Cases run in order: later ones build on earlier ones.
"""

import argparse
import base64
import difflib
import json
import pathlib
import re
import ssl
import sys
import tempfile
import urllib.error
import urllib.request

# Values that no two runs share, by key.
UNSTABLE = {
    "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "lastTransitionTime", "lastUpdateTime",
    "lastPhaseTransitionTime", "lastProbeTime", "startTime", "time", "clusterIP", "controller-uid",
    "batch.kubernetes.io/controller-uid", "firstTimestamp", "lastTimestamp", "eventTime", "token",
    "expirationTimestamp", "continue", "pod-template-hash", "remainingItemCount",
}
LISTS = {"clusterIPs"}
# Texts with a drawn part.
TEXTS = [
    (re.compile(r"kube-api-access-[a-z0-9]{5}"), "kube-api-access-<drawn>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uid>"),
    (re.compile(r"current: \d+"), "current: <revision>"),
    (re.compile(r"ResourceVersion in record \(\d+\)"), "ResourceVersion in record (<revision>)"),
    (re.compile(r"^(\d+[smhd])+$"), "<age>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    # Which nodes there are is not the case's doing.
    (re.compile(r"^\d+/\d+ nodes are available: .*"), "<no node is available>"),
    (re.compile(r'(resourceVersion\\*":\\*")\d+'), r"\1<revision>"),
]


def normal(value, drawn=(), ignore=()):
    """The value with everything unstable made equal."""
    if isinstance(value, dict):
        out = {}
        for key, inner in value.items():
            if key in ignore:
                continue
            if key in UNSTABLE and inner not in (None, "", "None"):
                out[key] = "<unstable>"
            elif key in LISTS and isinstance(inner, list) and inner != ["None"]:
                out[key] = ["<unstable>"]
            else:
                out[key] = normal(inner, drawn, ignore)
        return out
    if isinstance(value, list):
        return [normal(v, drawn, ignore) for v in value]
    if isinstance(value, str):
        for stem in drawn:
            value = re.sub(re.escape(stem) + r"[a-z0-9]{5}\b", stem + "<drawn>", value)
        for pattern, instead in TEXTS:
            value = pattern.sub(instead, value)
    return value


class Server:
    """An API server, reached with a client certificate or a token as a kubeconfig names them."""

    def __init__(self, kubeconfig):
        config = load(kubeconfig)
        name = config["current-context"]
        context = next(c["context"] for c in config["contexts"] if c["name"] == name)
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        self.url = cluster["server"].rstrip("/")
        self.token = user.get("token")
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        if "client-certificate-data" in user:
            with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pem:
                for key in ("client-certificate-data", "client-key-data"):
                    pem.write(base64.b64decode(user[key]))
                pem.flush()
                self.tls.load_cert_chain(pem.name)

    def send(self, request):
        body = request.get("body")
        data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        headers = {"Accept": request.get("accept", "application/json"), "User-Agent": "replay/1"}
        if data is not None:
            headers["Content-Type"] = request.get("contentType") or "application/json"
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        call = urllib.request.Request(self.url + request["path"], data, headers, method=request["method"])
        try:
            answer = urllib.request.urlopen(call, context=self.tls, timeout=30)
        except urllib.error.HTTPError as e:
            answer = e
        text = answer.read().decode(errors="replace")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        # Each is `299 - "text"`, with quotes in the text escaped.
        warnings = [json.loads(w.split(" ", 2)[2]) for w in answer.headers.get_all("Warning") or []]
        return {"status": answer.status, "response": value, "warnings": warnings}


def load(path):
    text = pathlib.Path(path).read_text()
    try:
        return json.loads(text)
    except ValueError:
        import yaml

        return yaml.safe_load(text)


def cases(paths):
    for path in paths:
        for line in pathlib.Path(path).read_text().splitlines():
            if line.strip():
                yield json.loads(line)


def split(answer):
    """The managed fields apart from the answer: old recordings keep them apart."""
    response = json.loads(json.dumps(answer["response"]))
    managed = None
    if isinstance(response, dict) and isinstance(response.get("metadata"), dict):
        managed = response["metadata"].pop("managedFields", None)
    return response, in_order(managed)


# Controllers, which write when they come to it.
CONTROLLERS = ("stoa-", "kube-controller-manager")


def in_order(managed):
    """Entries are sorted by their times, which are not those of the recording; controllers' are left out."""
    others = [e for e in managed or [] if not e["manager"].startswith(CONTROLLERS)]
    return managed and sorted(others, key=lambda e: (e["manager"], e["operation"], e.get("subresource", "")))


def drawn_names(case):
    """What the names begin with that the server draws."""
    body = case["request"].get("body")
    meta = body.get("metadata") if isinstance(body, dict) else None
    return [stem for stem in [(meta or {}).get("generateName")] if stem]


def compare(case, want, got):
    """The lines in which two answers differ."""
    drawn = drawn_names(case)
    ignore = tuple(case.get("ignore", ()))
    sides = []
    for answer in (want, got):
        response, managed = split(answer)
        side = {"status": answer["status"], "response": response}
        if case.get("managedFields"):
            side["managedFields"] = in_order(answer.get("managedFields")) or managed
        if "warnings" in case:
            side["warnings"] = answer.get("warnings", [])
        shown = json.dumps(normal(side, drawn, ignore), indent=1, sort_keys=True)
        sides.append(shown.splitlines())
    return list(difflib.unified_diff(*sides, "want", "got", lineterm="", n=2))


def replay(paths, server, other=None, skip=()):
    """Runs the cases; returns how many agreed and the differences by name."""
    agreed, differences = 0, {}
    for case in cases(paths):
        got = server.send(case["request"])
        if case["name"] in skip:
            continue
        want = case if other is None else other.send(case["request"])
        lines = compare(case, want, got)
        if lines:
            differences[case["name"]] = lines
        else:
            agreed += 1
    return agreed, differences


def record(paths, server, out):
    with open(out, "w") as f:
        for case in cases(paths):
            answer = server.send(case["request"])
            response, managed = split(answer)
            kept = {"name": case["name"], "request": case["request"], "status": answer["status"], "response": normal(response, drawn_names(case))}
            if case.get("ignore"):
                kept["ignore"] = case["ignore"]
                kept["response"] = normal(response, drawn_names(case), case["ignore"])
            if case.get("managedFields"):
                kept["managedFields"] = normal(managed)
            if answer["warnings"]:
                kept["warnings"] = answer["warnings"]
            f.write(json.dumps(kept) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--against", help="kubeconfig of a second server")
    parser.add_argument("--record", help="where to write this server's answers")
    parser.add_argument("--skip", action="append", default=[], help="name of a case that is sent but not compared")
    asked = parser.parse_args()
    server = Server(asked.kubeconfig)
    if asked.record:
        record(asked.cases, server, asked.record)
        return 0
    other = Server(asked.against) if asked.against else None
    agreed, differences = replay(asked.cases, server, other, asked.skip)
    for name, lines in differences.items():
        print(f"--- {name}", *lines, "", sep="\n")
    print(f"{agreed} agree, {len(differences)} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
