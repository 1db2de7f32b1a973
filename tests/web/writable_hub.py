"""A hub on loopback that takes commits, by the requests that huggingface_hub 2.4 sends to the real one.

Refuses what that refuses: no token (401), an existing repository (409), a commit on another than the newest (412), an
object that was not uploaded (400), metadata that its documentation forbids
(https://huggingface.co/docs/hub/model-cards; the full rules are not public).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

LFS_BYTES = 10 << 20
LICENCES = {"cc-by-sa-4.0", "apache-2.0", "mit", "other"}
PIPELINES = {"zero-shot-image-classification", "image-classification"}
TOKEN = "hf_loopback"


class WritableHub:
    """Repositories by name, each a list of commits; a commit is its files by path."""

    def __init__(self) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.objects: dict[str, bytes] = {}
        self.before_commit: dict[str, bytes] = {}
        """Files that somebody else commits just before the next commit."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                status, headers, content = hub.answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = handle_request

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def commit_of(self, repository: str, index: int = -1) -> str:
        """Returns the id of a commit: 40 hex digits of its number."""
        number = len(self.commits[repository]) + index if index < 0 else index
        return hashlib.sha1(f"{repository} {number}".encode()).hexdigest()

    def answer(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        path = unquote(urlsplit(url).path)
        is_open = method in ("GET", "HEAD") or path.startswith("/objects/") or path == "/api/validate-yaml"
        token = {name.lower(): value for name, value in headers.items()}.get("authorization")
        if not is_open and token != f"Bearer {TOKEN}":
            return 401, {}, b"{}"
        for pattern, reply in (
            (r"POST /api/validate-yaml", self.validate),
            (r"POST /api/repos/create", self.create),
            (r"GET /api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", self.info),
            (r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            (r"POST /api/models/([^/]+/[^/]+)/preupload/main", self.preupload),
            (r"POST /([^/]+/[^/]+).git/info/lfs/objects/batch", self.batch),
            (r"PUT /objects/([0-9a-f]{64})", self.store),
            (r"POST /api/models/([^/]+/[^/]+)/commit/main", self.commit),
            (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.file),
        ):
            if match := re.fullmatch(pattern, f"{method} {path}"):
                result = reply(body, *match.groups())
                if isinstance(result, tuple):
                    return result
                return 200, {"Content-Type": "application/json"}, json.dumps(result).encode()
        return 404, {}, b"{}"

    def validate(self, body: bytes) -> Any:
        content = json.loads(body)["content"]
        data = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)[1])  # type: ignore[index]
        wrong = [
            name for name, known in (("license", LICENCES), ("pipeline_tag", PIPELINES)) if data[name] not in known
        ]
        if data["license"] == "other" and not re.fullmatch(r"[a-z0-9-.]+", data.get("license_name", "")):
            wrong.append("license_name")
        for model in data.get("model-index", []):
            for result in model["results"]:
                if not (result["task"]["type"] and result["dataset"]["type"] and result["dataset"]["name"]):
                    wrong.append("model-index")
        return (400, {}, f"invalid: {wrong}".encode()) if wrong else {"errors": [], "warnings": []}

    def create(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
        if name in self.commits:
            return 409, {}, b"{}"
        self.commits[name] = [{".gitattributes": b"*.onnx filter=lfs\n"}]
        return {"url": f"{self.url}/{name}", "id": name, "name": name}

    def files(self, repository: str, revision: str | None) -> dict[str, bytes] | None:
        commits = self.commits.get(repository, [])
        for index in range(-len(commits), 0):
            if revision == self.commit_of(repository, index):
                return commits[index]
        return commits[-1] if commits and revision in (None, "main") else None

    def info(self, body: bytes, repository: str, revision: str | None) -> Any:
        files = self.files(repository, revision)
        if files is None:
            error = "RevisionNotFound" if repository in self.commits else "RepoNotFound"
            return 404, {"X-Error-Code": error}, b"{}"
        sha = revision if revision and len(revision) == 40 else self.commit_of(repository)
        return {"id": repository, "sha": sha, "private": False, "downloads": 0, "tags": [], "siblings": []}

    def tree(self, body: bytes, repository: str, revision: str) -> Any:
        files = self.files(repository, revision)
        if files is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        entries = []
        for path, content in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
            if is_large(path, content):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return entries

    def preupload(self, body: bytes, repository: str) -> Any:
        files = json.loads(body)["files"]
        mode = {one["path"]: "lfs" if is_large(one["path"], b"", one["size"]) else "regular" for one in files}
        return {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in mode.items()]}

    def batch(self, body: bytes, repository: str) -> Any:
        objects = []
        for one in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}
            objects.append(one if one["oid"] in self.objects else one | {"actions": upload})
        return {"objects": objects, "transfer": "basic"}

    def store(self, body: bytes, oid: str) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {}, b"{}"
        self.objects[oid] = body
        return {}

    def commit(self, body: bytes, repository: str) -> Any:
        if self.before_commit:
            self.commits[repository].append(self.commits[repository][-1] | self.before_commit)
            self.before_commit = {}
        files = dict(self.commits[repository][-1])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                if value.get("parentCommit") not in (None, self.commit_of(repository)):
                    return 412, {}, json.dumps({"error": "a commit has happened since"}).encode()
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.objects:
                    return 400, {}, b"{}"
                files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.commits[repository].append(files)
        oid = self.commit_of(repository)
        return {"commitUrl": f"{self.url}/{repository}/commit/{oid}", "commitOid": oid, "pullRequestUrl": None}

    def file(self, body: bytes, repository: str, revision: str, path: str) -> Any:
        content = (self.files(repository, revision) or {}).get(path)
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        commit = revision if len(revision) == 40 else self.commit_of(repository)
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
        return 200, {"X-Repo-Commit": commit, **etag}, content


def is_large(path: str, content: bytes, size: int | None = None) -> bool:
    """The hub's own rule for a new repository: by suffix, or above 10 MB."""
    return path.endswith((".onnx", ".safetensors")) or (len(content) if size is None else size) > LFS_BYTES
