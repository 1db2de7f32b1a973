"""A page for other devices: https with a certificate of its own, the same rules as on this machine, a code to scan."""

import hashlib
import http.client
import socket
import ssl
import sys
from pathlib import Path

import pytest
import segno
from chromium import open_page

from mobileclip_deploy.base.pages.server import LOOPBACK, PageServer, serving
from mobileclip_deploy.benchmark.browser import lan
from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError


def files(folder: Path) -> dict[str, Path]:
    (folder / "index.html").write_text("<h1>page</h1>")
    return {"index.html": folder / "index.html"}


def test_a_page_is_served_with_the_certificate_whose_fingerprint_is_said_and_by_the_same_rules(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = lan.own_certificate(LOOPBACK)
    server = PageServer(files(tmp_path), {"echo": lambda _, body: body.decode()}, host=LOOPBACK, tls=own.context)
    unknown = ssl.create_default_context()
    unknown.check_hostname, unknown.verify_mode = False, ssl.CERT_NONE
    with serving(server):
        assert server.address.startswith("https://127.0.0.1:")
        host = f"{LOOPBACK}:{server.server_port}"

        def ask(method: str, path: str, body: bytes = b"", **headers: str) -> int:
            connection = http.client.HTTPSConnection(LOOPBACK, server.server_port, timeout=60, context=unknown)
            connection.request(method, path, body, {"Host": host} | headers)
            certificate = connection.sock.getpeercert(binary_form=True)
            assert hashlib.sha256(certificate).hexdigest().upper() == own.fingerprint.replace(":", "")
            status = connection.getresponse().status
            connection.close()
            return status

        # Who speaks no https, or does not know the certificate, is not answered, and nobody waits for him.
        silent = socket.create_connection((LOOPBACK, server.server_port))
        plain = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=60)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            plain.request("GET", f"/{server.secret}/")
            plain.getresponse()
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection(LOOPBACK, server.server_port, timeout=60).request("GET", "/")
        assert ask("GET", f"/{server.secret}/") == 200
        assert ask("GET", "/") == ask("GET", f"/{server.secret}/", Host="evil.example") == 404
        assert ask("POST", f"/{server.secret}/echo", b"x", Origin=f"https://{host}") == 200
        for origin in (f"http://{host}", "https://evil.example"):
            assert ask("POST", f"/{server.secret}/echo", b"x", Origin=origin) == 404
        silent.close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_browser_that_accepts_it_has_a_secure_and_isolated_page(tmp_path: Path) -> None:
    own = lan.own_certificate(LOOPBACK)
    with serving(PageServer(files(tmp_path), {}, host=LOOPBACK, tls=own.context)) as server, open_page() as page:
        page.call("Security.setIgnoreCertificateErrors", ignore=True)
        page.visit(server.address)
        assert page.evaluate("document.querySelector('h1').textContent") == "page"
        assert page.evaluate("isSecureContext && crossOriginIsolated") is True


def test_the_code_to_scan_is_the_address() -> None:
    text = "https://192.168.1.20:40123/abcdefghijklmnopqrstuv/"
    drawn = lan.code(text)
    dark = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}
    halves = [[dark[sign] for sign in line] for line in drawn.split("\n")]
    rows = [[half[part] for half in line] for line in halves for part in (0, 1)]
    wanted = [[int(bool(one)) for one in row] for row in segno.make(text, micro=False).matrix_iter(border=2)]
    assert rows[: len(wanted)] == wanted


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, asked in (("trustme", lan.own_certificate), ("segno", lan.code)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(DependencyMissing, match=rf"needs {name}; type: pip install 'mobileclip-deploy\[lan\]'"):
            asked(LOOPBACK)
    monkeypatch.setattr(lan, "ELSEWHERE", ("256.0.0.1", 9))
    with pytest.raises(NotRun, match="in no local network"):
        lan.local_address()
    monkeypatch.setenv(lan.ADDRESS, LOOPBACK)  # where the way out is a VPN's
    assert lan.local_address() == LOOPBACK
    monkeypatch.setenv(lan.ADDRESS, "192.0.2.7")
    with pytest.raises(UsageError, match="is not an IPv4 address of this machine"):
        lan.local_address()
