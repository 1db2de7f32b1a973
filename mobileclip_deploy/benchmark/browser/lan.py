"""Access to the page for other devices of the local network: address, https certificate and QR code."""

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
# An address for documentation (RFC 5737). No packet is sent, but the system chooses the interface for it.
ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True)
class Certificate:
    """A certificate, signed by an authority of this process. `fingerprint`: SHA-256 as browsers show it."""

    context: ssl.SSLContext
    fingerprint: str


def local_address() -> str:
    """Returns this machine's IPv4 address in its local network.

    That is the address in the variable ADDRESS, else the address of the default route, which may be a VPN's.

    Raises:
        NotRun: this machine is in no network.
        UsageError: ADDRESS is not an IPv4 address of this machine.
    """
    if named := os.environ.get(ADDRESS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trying:
            try:
                trying.bind((named, 0))
            except OSError:
                raise UsageError(f"{ADDRESS}={named!r} is not an IPv4 address of this machine; correct it") from None
        return named
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError as error:
            raise NotRun(
                f"this machine is in no local network ({error.strerror}); name `device='browser:serve'`"
            ) from error
        return str(probe.getsockname()[0])


def own_certificate(host: str) -> Certificate:
    """Creates a certificate for an address, valid for `DAYS`. When this returns, its key is in no file.

    A browser warns of the certificate, and shows its fingerprint. Without https a page from another machine gets no
    WebGPU, no threads and no fine clock.

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
    """Returns a QR code in half blocks, light on dark, which a phone's camera reads from a terminal.

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
