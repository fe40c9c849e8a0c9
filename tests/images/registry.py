"""Debian's docker-registry on the loopback device, with a certificate of its own and passwords; and a small client that
pushes images into it, as no other tool is at hand."""

import base64
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import tarfile
import urllib.error
import urllib.request
import warnings

from conftest import free_port, until

USER, PASSWORD = "robot", "open sesame"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """One registry process, ended by its process id."""

    def __init__(self, directory, login=True):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.login = login
        self.ca = self.dir / "ca.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=test registry", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
             "-keyout", self.dir / "key.pem", "-out", self.ca],
            check=True, capture_output=True,
        )
        auth = ""
        if login:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                import crypt
            hashed = crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
            # Go's bcrypt reads the older name of the same function.
            (self.dir / "htpasswd").write_text(f"{USER}:{hashed.replace('$2b$', '$2y$')}\n")
            auth = f"auth:\n  htpasswd:\n    realm: test\n    path: {self.dir}/htpasswd\n"
        (self.dir / "config.yml").write_text(
            "version: 0.1\nlog:\n  level: warn\n"
            f"storage:\n  filesystem:\n    rootdirectory: {self.dir}/data\n  delete:\n    enabled: true\n"
            f"http:\n  addr: {self.host}\n  secret: test\n  tls:\n    certificate: {self.ca}\n    key: {self.dir}/key.pem\n" + auth
        )
        self.start()

    def start(self):
        log = open(self.dir / "log", "ab")
        self.process = subprocess.Popen(
            [shutil.which("docker-registry") or "/usr/bin/docker-registry", "serve", self.dir / "config.yml"], stdout=log, stderr=log
        )
        until(self.answers, what="the registry to answer")

    def answers(self):
        assert self.process.poll() is None, (self.dir / "log").read_text()
        try:
            return self.request("GET", "/v2/").status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=10)

    def request(self, method, path, body=None, headers=()):
        url = path if path.startswith("http") else f"https://{self.host}{path}"
        request = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
        if self.login:
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        return urllib.request.urlopen(request, timeout=30, context=ssl.create_default_context(cafile=str(self.ca)))

    def push_blob(self, repository, data):
        where = self.request("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
        joint = "&" if "?" in where else "?"
        self.request("PUT", f"{where}{joint}digest={digest(data)}", data, {"Content-Type": "application/octet-stream"})
        return {"digest": digest(data), "size": len(data)}

    def push_manifest(self, repository, tag, manifest):
        body = json.dumps(manifest).encode()
        self.request("PUT", f"/v2/{repository}/manifests/{tag}", body, {"Content-Type": manifest["mediaType"]})
        return {"mediaType": manifest["mediaType"], "digest": digest(body), "size": len(body)}

    def push(self, repository, tag, layers, config=None, architecture=None):
        """Pushes an image of `layers` (directories or dicts of files) and returns the descriptor of its manifest."""
        tars = [layer if isinstance(layer, bytes) else tar_of(layer) for layer in layers]
        document = {
            "architecture": architecture or machine(), "os": "linux", "config": config or {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(t) for t in tars]},
        }
        oci = "application/vnd.oci.image"
        blobs = [self.push_blob(repository, gzip.compress(t, 1, mtime=0)) for t in tars]
        config_blob = self.push_blob(repository, json.dumps(document).encode())
        return self.push_manifest(repository, tag, {
            "schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json",
            "config": dict(config_blob, mediaType=f"{oci}.config.v1+json"),
            "layers": [dict(b, mediaType=f"{oci}.layer.v1.tar+gzip") for b in blobs],
        })

    def docker_config(self, password=PASSWORD):
        return json.dumps({"auths": {self.host: {"username": USER, "password": password}}})


def machine():
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def tar_of(files):
    """A tar of a directory, or of a dict from names to contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        if isinstance(files, dict):
            for name, data in sorted(files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o755
                tar.addfile(entry, io.BytesIO(data))
        else:
            tar.add(files, arcname=".", filter=plain)
    return out.getvalue()


def plain(entry):
    entry.mtime = entry.uid = entry.gid = 0
    return entry
