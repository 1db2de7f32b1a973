"""A phone behind a slow connection, as one that `android device remote` put on adb: what it has measured is fetched."""

from pathlib import Path

import pytest
from benchmark.android import tiny
from programs import script

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android import adb, rounds
from mobileclip_deploy.benchmark.android.adb import Adb, DeviceLost

SPEED = 10_000
"""Bytes a second."""


def test_rounds_come_through_a_connection_slower_than_the_patience_for_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(
        tmp_path / "bin" / "adb",
        f'eval "$4" >"$0.said"; size=$(wc -c <"$0.said"); sleep $(( size / {SPEED} )); cat "$0.said"',
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(adb, "PATIENCE_SECONDS", 1)
    monkeypatch.setattr(rounds, "PATIENCE_SECONDS", 1)
    phone, stream = tmp_path / "phone", b"x" * 30_000 + b"\n"
    phone.mkdir()
    (phone / "rounds").write_bytes(stream)
    fetching = rounds.Rounds(tiny.plan(tmp_path / "plan"), silent)
    link = Adb("remote", str(phone))
    with pytest.raises(DeviceLost, match="did not respond within 1 s"):
        link.demand(f"cat {phone}/rounds", 1)
    assert fetching._content(link, f"{phone}/rounds").encode() == stream
    assert fetching._content(link, f"{phone}/absent") == ""
