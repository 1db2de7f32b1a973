"""A page for other devices of the local network: https with a certificate of its own, and a code to scan."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import NotRun, RuntimeFailed

__all__ = ["Certificate", "code", "local_address", "self_signed"]

DAYS = 7
OPENSSL_SECONDS = 60
# Of the documentation's addresses (RFC 5737): no packet is sent, but the system says which way it would go.
ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True)
class Certificate:
    """A certificate that nobody but this process has signed. `fingerprint`: SHA-256, as browsers show it."""

    context: ssl.SSLContext
    fingerprint: str


def local_address() -> str:
    """This machine's IPv4 address in its local network.

    Raises:
        NotRun: it is in none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(ELSEWHERE)
        except OSError as error:
            raise NotRun(f"this machine is in no local network ({error.strerror}); device='browser:serve'") from error
        return str(asked.getsockname()[0])


def self_signed(host: str) -> Certificate:
    """A certificate for an address, valid for a week; its key is in no file when this returns.

    A browser that meets it warns, and shows the fingerprint: without https a page from another machine gets neither
    WebGPU nor threads nor a fine clock.

    Raises:
        NotRun: the program openssl is not installed.
        RuntimeFailed: it made none.
    """
    program = shutil.which("openssl")
    if program is None:
        raise NotRun("a certificate is made by openssl, which is not installed (Debian: apt-get install openssl)")
    with tempfile.TemporaryDirectory() as folder:
        key, file = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", str(DAYS), "-subj", "/CN=mobileclip-deploy", "-addext", f"subjectAltName=IP:{host}"]
        command += ["-addext", "extendedKeyUsage=serverAuth", "-keyout", str(key), "-out", str(file)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=OPENSSL_SECONDS, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeFailed(f"openssl made no certificate within {OPENSSL_SECONDS} s") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise RuntimeFailed(f"openssl made no certificate: {said[-1]}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file, key)
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(file.read_text(encoding="ascii"))).hexdigest().upper()
    return Certificate(context, ":".join(digest[place : place + 2] for place in range(0, len(digest), 2)))


def code(text: str) -> str | None:
    """A QR code in half blocks, light on dark, as a phone's camera reads it from a terminal; None without segno."""
    try:
        import segno
    except ImportError:
        return None
    rows = [list(row) for row in segno.make(text, micro=False).matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    halves = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}  # 1 is dark
    return "\n".join(
        "".join(halves[int(bool(upper)), int(bool(lower))] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )
