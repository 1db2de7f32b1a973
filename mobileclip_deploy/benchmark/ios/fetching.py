"""What comes back from the harness: finished rounds, and the result, checked against what was asked for."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.driver import Plan
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.files import write_whole

__all__ = ["checked_result", "interrupted", "longer_stream", "stream_of", "write_stream"]


def checked_result(data: bytes | None, plan: Plan, kind: Literal["ios", "mac"]) -> Result:
    """The harness's result with its summaries computed here.

    A result that names no stand-in, but was fetched by a computer that is no Mac, is a stand-in's all the same.

    Raises:
        RuntimeFailed: missing, damaged, or of something else than this plan.
    """
    if data is None:
        raise RuntimeFailed("the run is finished, but its result is gone; run the command again")
    name = f"{plan.job.run_id}.result.json"
    try:
        result = parse_document(data.decode("utf-8", errors="replace"), Result, name)
    except InvalidInput as error:
        raise RuntimeFailed(f"{error}; run the command again, which fetches it anew") from error
    if result.job != plan.job:
        raise RuntimeFailed(
            f"{name} is the result of another job; delete the app from the device, and run the command again"
        )
    if result.device.kind != kind:
        raise RuntimeFailed(f"{name} was measured on a device of kind {result.device.kind}, not {kind}")
    simulated = result.device.simulated or platform.system() != "Darwin"
    return complete(result.model_copy(update={"device": result.device.model_copy(update={"simulated": simulated})}))


def interrupted(failure: RuntimeFailed, plan: Plan) -> RuntimeFailed:
    """The failure of a run that had begun, and what is left of it."""
    rounds = plan.stream.read_bytes().count(b"\n") if plan.stream.exists() else 0
    kept = f"{rounds} of {len(plan.job.order)} rounds are kept: add --resume" if rounds else "no round was finished yet"
    return RuntimeFailed(f"{failure} ({kept})")


def longer_stream(local: Path, remote: bytes | None) -> bytes:
    """The one of two streams of the same run that holds more finished rounds; both only ever grow."""
    kept = local.read_bytes() if local.exists() else b""
    return max(kept, remote or b"", key=lambda lines: lines.count(b"\n"))


def stream_of(result: Result) -> bytes:
    """The lines of a result's rounds."""
    return b"".join(item.model_dump_json().encode() + b"\n" for cell in result.cells for item in cell.rounds)


def write_stream(local: Path, lines: bytes) -> None:
    """Write it whole or not at all."""
    if lines:
        write_whole(local, lines)
