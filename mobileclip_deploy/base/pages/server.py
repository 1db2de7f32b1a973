"""The page's server: its address contains a secret, and it serves only the job's files.

It listens on the loopback address, unless it gets a certificate and another address.
"""

import contextlib
import json
import os
import secrets
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mobileclip_deploy.base.files import open_regular
from mobileclip_deploy.errors import InvalidInput, readable_reason

LOOPBACK = "127.0.0.1"
LARGEST_POST = 64 * 2**20
CONNECTIONS = 64
"""Limit of connections, each with a thread; a browser opens six."""
STRANGER_SECONDS, PAGE_SECONDS = 10, 120
"""Seconds that a connection may be silent: before it has sent the secret, and after."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
HEADERS = {
    # The first two together allow shared memory, hence threads, and a clock of 5 instead of 100 microseconds.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Answer = Callable[[dict[str, str], bytes], object]
"""Handler of a POST: its query and its body -> the value to send back as JSON."""


class PageServer(ThreadingHTTPServer):
    """Server of `files` by GET and `posts` by POST, below /<secret>/ at `address`.

    It uses http on the loopback address, or with a certificate (`tls`) https at this machine's address `host`.
    """

    daemon_threads = True

    def __init__(
        self,
        files: Mapping[str, Path],
        posts: Mapping[str, Answer],
        port: int = 0,
        host: str = LOOPBACK,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__((host, port), _Handler)
        self.host, self.scheme = host, "http" if tls is None else "https"
        if tls is not None:  # a silent client then blocks only its own thread
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.files, self.posts = dict(files), dict(posts)
        self.secret = secrets.token_urlsafe(16)
        # Accepted Host headers. A page of another site may post here, or its own host name may resolve to this address:
        # neither sends one of these.
        names = (host, "localhost") if host == LOOPBACK else (host,)
        self.hosts = {f"{name}:{self.server_port}" for name in names}
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handles a request in its own thread, if there are not too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores errors of connections. A browser that ends closes its connections early, and one that does not trust
        the certificate aborts the handshake."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """Address for a browser."""
        return f"{self.scheme}://{self.host}:{self.server_port}/{self.secret}/"


@contextlib.contextmanager
def serving(server: PageServer) -> Iterator[PageServer]:
    """Serves requests until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = STRANGER_SECONDS
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mobileclip-deploy", ""

    def do_GET(self) -> None:
        name = self._name()
        file = None if name is None else self.server.files.get(name or "index.html")
        if file is None:
            return self._say(HTTPStatus.NOT_FOUND)
        try:
            opened = open_regular(file)
        except (OSError, InvalidInput):  # removed or replaced meanwhile: the page reports it and goes on
            return self._say(HTTPStatus.NOT_FOUND)
        with opened, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            left = os.fstat(opened.fileno()).st_size
            self._head(HTTPStatus.OK, TYPES.get(file.suffix, "application/octet-stream"), left)
            while left and (piece := opened.read(min(left, 2**20))):
                self.wfile.write(piece)
                left -= len(piece)
            self.close_connection |= left > 0  # the file became shorter meanwhile: the announced length is wrong
        return None

    def do_POST(self) -> None:
        name = self._name()
        action = self.server.posts.get(name or "")
        own_origins = {f"{self.server.scheme}://{host}" for host in self.server.hosts}
        if action is None or self.headers.get("Origin") not in own_origins:  # browsers send the page's Origin
            return self._say(HTTPStatus.NOT_FOUND)
        length = self.headers.get("Content-Length", "")
        counted = length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= LARGEST_POST
        if not counted or "Transfer-Encoding" in self.headers:
            return self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = self.rfile.read(int(length))
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        try:
            answer = action(query, body)
        except (InvalidInput, ValueError, KeyError) as error:
            return self._say(HTTPStatus.BAD_REQUEST, {"error": readable_reason(error)})
        return self._say(HTTPStatus.OK, answer)

    def _name(self) -> str | None:
        """Returns the path below the secret. None without the secret, or with another Host header."""
        prefix, hosts = f"/{self.server.secret}/", self.headers.get_all("Host", [])
        if not self.path.startswith(prefix) or len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            return None
        self.connection.settimeout(PAGE_SECONDS)
        return urlsplit(self.path).path.removeprefix(prefix)

    def _say(self, status: HTTPStatus, answer: object = None) -> None:
        content = json.dumps(answer).encode()
        self._head(status, TYPES[".json"], len(content))
        self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, size: int) -> None:
        if status is not HTTPStatus.OK:
            self.close_connection = True  # the request may have a body that was not read
        self.send_response(status)
        for key, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(size)}.items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the driver reports progress."""
