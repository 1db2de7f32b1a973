"""A download ends: by its bytes, and by its time, however slowly a server sends."""

import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from programs import serving

from mobileclip_deploy.base import download


class Server(BaseHTTPRequestHandler):
    """Answers by the path: more than was asked for, or a byte at a time for ever, of a header or of the file."""

    def do_GET(self) -> None:
        if self.path != "/headers":
            self.send_response(200)
            self.end_headers()
        if self.path == "/much":
            self.wfile.write(bytes(1 << 20))
            return
        if self.path == "/headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(200):
            try:
                self.wfile.write(b"x")
                time.sleep(0.02)
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def test_a_download_ends_by_its_bytes_and_by_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Server) as address:
        counts: list[int] = []
        count = download.download(f"{address}/much", tmp_path / "a", 100_000, counts.append)
        assert count == counts[-1] == (tmp_path / "a").stat().st_size <= 100_000 + download.PIECE
        monkeypatch.setattr(download, "MOST_SECONDS", 0.3)
        for path in ("file", "headers"):
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match="takes more than"):
                download.download(f"{address}/{path}", tmp_path / path, 100)
            assert time.monotonic() - begun < 2
    for broken in ("no address", f"{address}/gone"):
        with pytest.raises(OSError, match=r"\w"):
            download.download(broken, tmp_path / "b", 100)
