"""A server on loopback that speaks as much of the hub's protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
API = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+?)(/(revision|tree)/(?P<revision>[^/?]+))?(\?.*)?")


@dataclass
class HubServer:
    """Serves `files` of `repository` at `main`, at COMMIT and at no other revision; `requests` is what was asked.

    `status` answers everything with that code; `gated` wants an Authorization header; `drops` connections are closed
    in the middle of a file; `wrong_bytes` sends other content than the file's sha256 says; `headers` are sent with a
    file in place of the hub's own.
    """

    repository: str
    files: dict[str, bytes]
    status: int = 0
    gated: bool = False
    drops: int = 0
    wrong_bytes: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                server.answer(self, body=False)

            def do_GET(self) -> None:
                server.answer(self, body=True)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: bool) -> None:
        self.requests.append((handler.command, handler.path, dict(handler.headers)))
        if self.status:
            return self.send(handler, self.status, body, {}, b"")
        if self.gated and "authorization" not in {name.lower() for name in handler.headers}:
            return self.send(handler, 403, body, {"X-Error-Code": "GatedRepo"}, b"")
        asked = RESOLVE.fullmatch(handler.path) or API.fullmatch(handler.path)
        if asked is None or asked["repository"] != self.repository:
            return self.send(handler, 404, body, {"X-Error-Code": "RepoNotFound"}, b"")
        if asked["revision"] not in (None, "main", COMMIT):
            return self.send(handler, 404, body, {"X-Error-Code": "RevisionNotFound"}, b"")
        if asked.re is API:
            return self.describe(handler, body, "/tree/" in handler.path)
        content = self.files.get(asked["file"])
        if content is None:
            return self.send(handler, 404, body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
        return self.send_file(handler, content, body)

    def describe(self, handler: BaseHTTPRequestHandler, body: bool, tree: bool) -> None:
        listing: object = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in self.files.items()]
        if not tree:
            listing = {
                "id": self.repository,
                "sha": COMMIT,
                "private": False,
                "downloads": 0,
                "tags": [],
                "siblings": [{"rfilename": name} for name in self.files],
            }
        self.send(handler, 200, body, {"Content-Type": "application/json"}, json.dumps(listing).encode())

    def send_file(self, handler: BaseHTTPRequestHandler, content: bytes, body: bool) -> None:
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        headers |= {"X-Linked-Size": str(len(content)), "Accept-Ranges": "bytes"} | self.headers
        if self.wrong_bytes:
            content = bytes(len(content))
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if asked:
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        drop = body and self.drops > 0
        self.drops -= drop
        self.send(handler, status, body, headers, content[start:], cut=len(content) // 2 - start if drop else None)

    def send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bool,
        headers: dict[str, str],
        content: bytes,
        cut: int | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if body:
            handler.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            handler.close_connection = True
