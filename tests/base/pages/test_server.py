"""The page's server: its own page gets the job's files, and nobody else gets anything."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobileclip_deploy.base.pages import server as serving_module
from mobileclip_deploy.base.pages.server import CONNECTIONS, LARGEST_POST, PageServer, serving
from mobileclip_deploy.errors import InvalidInput


def echo(query: dict[str, str], body: bytes) -> object:
    if body == b"bad":
        raise InvalidInput("not like that")
    return {"query": query, "body": body.decode()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    (tmp_path / "index.html").write_text("<h1>page</h1>")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)) * 9000)  # more than is sent at once
    files = {"index.html": tmp_path / "index.html", "plan/models/a.onnx": tmp_path / "model.onnx"}
    with serving(PageServer(files, {"echo": echo})) as found:
        yield found


class Client:
    """A browser's words, or what another program may say in their place."""

    def __init__(self, server: PageServer) -> None:
        self.server, self.host = server, f"127.0.0.1:{server.server_port}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        for name, value in ({"Host": self.host, "Content-Length": str(len(body))} | headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, dict(answer.getheaders())


@pytest.fixture
def client(server: PageServer) -> Client:
    return Client(server)


def test_a_file_that_is_removed_or_replaced_while_the_page_is_shown_is_not_found(
    client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, place = tmp_path / "model.onnx", f"/{client.server.secret}/plan/models/a.onnx"
    model.unlink()
    assert client.ask("GET", place)[0] == 404
    os.mkfifo(model)
    assert client.ask("GET", place)[0] == 404
    assert client.ask("GET", f"/{client.server.secret}/")[0] == 200
    assert capfd.readouterr().err == ""


def test_the_page_and_the_files_of_the_job_are_served_isolated_and_with_a_strict_policy(client: Client) -> None:
    status, content, headers = client.ask("GET", f"/{client.server.secret}/")
    assert (status, content) == (200, b"<h1>page</h1>")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    status, content, _ = client.ask("GET", f"/{client.server.secret}/plan/models/a.onnx")
    assert (status, content) == (200, bytes(range(256)) * 9000)


@pytest.mark.parametrize(
    "path",
    [
        "secret.txt",
        "../secret.txt",
        "plan/models/../../secret.txt",
        "%2e%2e/secret.txt",
        "plan",
        "//etc/passwd",
        "echo",
    ],
)
def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert client.ask("GET", f"/{client.server.secret}/{path}")[:2] == (404, b"null")


@pytest.mark.parametrize("path", ["/", "/index.html", "/wrong/", "/wrong/index.html", "/wrong/echo"])
def test_without_the_secret_there_is_nothing(client: Client, path: str) -> None:
    own = {"Origin": f"http://{client.host}"}
    assert client.ask("GET", path)[0] == 404
    assert client.ask("POST", path, b"x", **own)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", ""])
def test_a_name_that_leads_here_is_not_ours(client: Client, host: str) -> None:
    assert client.ask("GET", f"/{client.server.secret}/", Host=host)[0] == 404


def test_its_own_page_may_post_and_another_site_may_not(client: Client) -> None:
    path = f"/{client.server.secret}/echo?a=1"
    status, content, _ = client.ask("POST", path, b"x", Origin=f"http://{client.host}")
    assert (status, content) == (200, b'{"query": {"a": "1"}, "body": "x"}')
    for headers in (
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": f"https://{client.host}"},
        {"Origin": client.host},
    ):
        assert client.ask("POST", path, b"x", **headers)[0] == 404


def test_what_cannot_be_used_is_refused_in_words_and_what_is_too_large_is_not_read(client: Client) -> None:
    path, own = f"/{client.server.secret}/echo", {"Origin": f"http://{client.host}"}
    assert client.ask("POST", path, b"bad", **own)[:2] == (400, b'{"error": "not like that"}')
    assert client.ask("POST", path, b"", **own, **{"Content-Length": str(LARGEST_POST + 1)})[0] == 413
    assert client.ask("POST", path, b"", **own, **{"Content-Length": "-1"})[0] == 413
    assert client.ask("POST", path, b"", **own, **{"Content-Length": "9" * 5000})[0] == 413
    assert client.ask("POST", path, b"0\r\n\r\n", **own, **{"Transfer-Encoding": "chunked"})[0] == 413


def words(client: Client, *lines: str) -> bytes:
    """What comes back to these lines of a request, until the server closes."""
    with socket.create_connection(("127.0.0.1", client.server.server_port), timeout=30) as opened:
        opened.sendall("\r\n".join([*lines, "", ""]).encode())
        return b"".join(iter(lambda: opened.recv(4096), b""))


def test_one_host_is_named_and_the_path_is_ours(client: Client) -> None:
    page, host = f"/{client.server.secret}/", f"Host: {client.host}"
    last = "Connection: close"
    assert words(client, f"GET {page} HTTP/1.1", host, last).startswith(b"HTTP/1.1 200")
    assert words(client, f"GET {page} HTTP/1.1", host, "Host: evil.example", last).startswith(b"HTTP/1.1 404")
    assert words(client, f"GET http://evil.example{page} HTTP/1.1", host, last).startswith(b"HTTP/1.1 404")


def test_silent_connections_hold_no_more_than_so_many_threads_and_not_for_long(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module._Handler, "timeout", 0.5)
    before, place = threading.active_count(), ("127.0.0.1", client.server.server_port)
    client.server.socket.listen(CONNECTIONS + 20)  # or the kernel lets some of them wait for seconds
    silent = [socket.create_connection(place, timeout=30) for _ in range(CONNECTIONS + 20)]
    assert [one.recv(1) for one in silent[-20:]] == [b""] * 20  # sent away at once
    assert threading.active_count() - before <= CONNECTIONS
    started = time.monotonic()
    assert {one.recv(1) for one in silent[:CONNECTIONS]} == {b""}
    assert time.monotonic() - started < 20
    assert client.ask("GET", f"/{client.server.secret}/")[0] == 200
    for one in silent:
        one.close()
