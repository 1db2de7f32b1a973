"""A hub on loopback that serves files and takes commits, by what huggingface_hub 2.4 sends to the real one.

Refuses what that refuses: no token (401), an existing repository (409), a commit on another than the newest (412), an
object that was not uploaded (400), metadata that its documentation forbids
(https://huggingface.co/docs/hub/model-cards; the full rules are not public).
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

LFS_BYTES = 10 << 20
LICENCES = {"cc-by-sa-4.0", "apache-2.0", "mit", "other"}
PIPELINES = {"zero-shot-image-classification", "image-classification"}
TOKEN = "hf_loopback"


def commit_id(number: int) -> str:
    return hashlib.sha1(b"%d" % number).hexdigest()


COMMIT = commit_id(0)
"""The first commit of every repository."""


class HubServer:
    """Repositories by name, each a list of commits; a commit is its files by path.

    `status` answers everything with that code; `gated` wants an Authorization header; `drops` connections are closed
    in the middle of a file; `sent` are contents, by path, in place of those that the hashes say; `headers` are sent
    with a file in place of the hub's own; `edit` changes the answers that are JSON. `requests` are those that came.
    """

    def __init__(self, repository: str = "", files: dict[str, bytes] | None = None) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        if files is not None:
            self.commits[repository] = [files]
        self.objects: dict[str, bytes] = {}
        self.before_commit: dict[str, bytes] = {}
        """Files that somebody else commits just before the next commit."""
        self.status, self.drops, self.gated = 0, 0, False
        self.sent: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.edit: Callable[[Any], Any] = lambda answer: answer
        self.requests: list[tuple[str, str, dict[str, str]]] = []
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
                if self.command == "GET" and "/resolve/" in self.path and hub.drops:
                    hub.drops -= 1
                    content, self.close_connection = content[: len(content) // 2], True
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
        return commit_id(len(self.commits[repository]) + index)

    def answer(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.requests.append((method, url, headers))
        if self.status:
            return self.status, {}, b""
        path, sent = unquote(urlsplit(url).path), {name.lower(): value for name, value in headers.items()}
        is_open = method in ("GET", "HEAD") or path.startswith("/objects/") or path == "/api/validate-yaml"
        if not is_open and sent.get("authorization") != f"Bearer {TOKEN}":
            return 401, {}, b"{}"
        if self.gated and "authorization" not in sent:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        for pattern, reply in (
            (r"POST /api/validate-yaml", self.validate),
            (r"POST /api/repos/create", self.create),
            (r"GET /api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", self.info),
            (r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            (r"POST /api/models/([^/]+/[^/]+)/preupload/main", self.preupload),
            (r"POST /([^/]+/[^/]+).git/info/lfs/objects/batch", self.batch),
            (r"PUT /objects/([0-9a-f]{64})", self.store),
            (r"POST /api/models/([^/]+/[^/]+)/commit/main", self.commit),
        ):
            if match := re.fullmatch(pattern, f"{method} {path}"):
                result = reply(body, *match.groups())
                if isinstance(result, tuple):
                    return result
                return 200, {"Content-Type": "application/json"}, json.dumps(self.edit(result)).encode()
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.file(sent.get("range", ""), *match.groups())
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

    def files(self, repository: str, revision: str | None) -> Any:
        """The files of a commit, or what is answered if there is none."""
        commits = self.commits.get(repository, [])
        ids = [commit_id(number) for number in range(len(commits))]
        if commits and revision in (None, "main", *ids):
            return commits[ids.index(revision) if revision in ids else -1]
        return 404, {"X-Error-Code": "RevisionNotFound" if commits else "RepoNotFound"}, b""

    def info(self, body: bytes, repository: str, revision: str | None) -> Any:
        files = self.files(repository, revision)
        if isinstance(files, tuple):
            return files
        sha = revision if revision and len(revision) == 40 else self.commit_of(repository)
        return {"id": repository, "sha": sha, "private": False, "downloads": 0, "tags": [], "siblings": []}

    def tree(self, body: bytes, repository: str, revision: str) -> Any:
        files = self.files(repository, revision)
        if isinstance(files, tuple):
            return files
        entries = []
        for path, content in files.items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_id(content)}
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

    def file(self, asked: str, repository: str, revision: str, path: str) -> tuple[int, dict[str, str], bytes]:
        files = self.files(repository, revision)
        if isinstance(files, tuple):
            return files
        commit = revision if len(revision) == 40 else self.commit_of(repository)
        if path not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        content = files[path]
        etag = hashlib.sha256(content).hexdigest() if is_large(path, content) else git_id(content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "X-Linked-Size": str(len(content))} | self.headers
        content = self.sent.get(path, content)
        if start := re.fullmatch(r"bytes=(\d+)-", asked):
            headers["Content-Range"] = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
            return 206, headers, content[int(start[1]) :]
        return 200, {"Accept-Ranges": "bytes"} | headers, content


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str, content: bytes, size: int | None = None) -> bool:
    """The hub's own rule for a new repository: by suffix, or above 10 MB."""
    suffixes = (".bin", ".onnx", ".pt", ".safetensors")
    return path.endswith(suffixes) or (len(content) if size is None else size) > LFS_BYTES
