"""A page for other devices of the local network: https with a certificate of its own, and a code to scan."""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import socket
import ssl
from dataclasses import dataclass

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError

ADDRESS = "MOBILECLIP_LAN_ADDRESS"
NEEDED_BY_LAN = ("trustme", "segno")
DAYS = 7
# One of the documentation's addresses (RFC 5737): no packet is sent, but the system says which way it would go.
ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True)
class Certificate:
    """A certificate that an authority of this process alone has signed. `fingerprint`: SHA-256, as browsers show it."""

    context: ssl.SSLContext
    fingerprint: str


def local_address() -> str:
    """This machine's IPv4 address in its local network: the one that ADDRESS names, else that of the way out, which may
    be a VPN's.

    Raises:
        NotRun: it is in none.
        UsageError: ADDRESS is not an IPv4 address of this machine.
    """
    if named := os.environ.get(ADDRESS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trying:
            try:
                trying.bind((named, 0))
            except OSError:
                raise UsageError(f"{ADDRESS}={named!r} is not an IPv4 address of this machine; correct it") from None
        return named
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(ELSEWHERE)
        except OSError as error:
            raise NotRun(
                f"this machine is in no local network ({error.strerror}); name `device='browser:serve'`"
            ) from error
        return str(asked.getsockname()[0])


def own_certificate(host: str) -> Certificate:
    """A certificate for an address, valid for a week; its key is in no file when this returns.

    A browser that meets it warns, and shows the fingerprint: without https a page from another machine gets neither
    WebGPU nor threads nor a fine clock.

    Raises:
        DependencyMissing: trustme is not installed.
    """
    try:
        import trustme
    except ImportError:
        raise _lacking("trustme") from None
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=DAYS)
    issued = trustme.CA().issue_cert(host, common_name="mobileclip-deploy", not_after=ends)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode("ascii"))
    return Certificate(context, hashlib.sha256(der).digest().hex(":").upper())


def code(text: str) -> str:
    """A QR code in half blocks, light on dark, as a phone's camera reads it from a terminal.

    Raises:
        DependencyMissing: segno is not installed.
    """
    try:
        import segno
    except ImportError:
        raise _lacking("segno") from None
    drawn = io.StringIO()
    segno.make(text, micro=False).terminal(out=drawn, border=2, compact=True)
    return drawn.getvalue().rstrip("\n")


def _lacking(package: str) -> DependencyMissing:
    return DependencyMissing(f"browser:lan needs {package}; type: pip install 'mobileclip-deploy[lan]'")
