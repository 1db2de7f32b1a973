"""Process that runs a file of unknown origin, bounded in time and memory; `opening` starts it.

python -m mobileclip_deploy.verify.audit.process TARGET FILE MEMORY SECONDS

MEMORY: bytes of data; SECONDS: of CPU time. Each line of stdin is a JSON request, each line of stdout its reply:
{"call": IN.npz, "result": OUT.npz}, or {"constants": OUT.npz}; with "unrounded": true of the file without the rounding
of activations. A reply has the number of its request. Arrays are named by their index.
"""

import json
import os
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.errors import InvalidInput, MobileClipDeployError, Unread, causes, first_sentence
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.foreign_file import ForeignFile

LEAST = 8
"""Elements of the smallest constant that is reported: smaller ones are settings."""
LARGEST_RESULT = 1 << 22
"""Elements of all results of a picture together that are passed on, at most."""


def main() -> None:
    """Answers requests until stdin ends. The output of libraries goes to stderr."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    target, path, memory, seconds = sys.argv[1:]
    _limit(int(memory), int(seconds))

    def reply(document: dict[str, Any], number: int = 0) -> None:
        replies.write(json.dumps(document | {"number": number}) + "\n")
        replies.flush()

    try:
        file = get_target(target).open_foreign(Path(path))
    except Exception as error:  # runtimes' exceptions have no common base
        reply(_failure(error))
        os._exit(0)
    ports = {side: [asdict(port) for port in getattr(file, side)] for side in ("inputs", "outputs")}
    rounds = file.unrounded is not None
    reply(ports | {"engine": file.engine, "operators": sorted(file.operators), "rounds": rounds})
    unrounded = cache(file.unrounded or (lambda: file))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(unrounded() if request.get("unrounded") else file, request)
        except Exception as error:  # values that the file does not take: the file itself is valid
            answer = _failure(error) | {"invalid": False}
        reply(answer, request["number"])
    os._exit(0)  # without the runtimes' own clean-up, which may crash


def _limit(memory: int, seconds: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _failure(error: Exception) -> dict[str, Any]:
    text = error.line if isinstance(error, MobileClipDeployError) else first_sentence(error)
    unread = any(isinstance(cause, Unread) for cause in causes(error))
    return {"error": text, "invalid": isinstance(error, InvalidInput) and not unread}


def _answer(file: ForeignFile, request: dict[str, Any]) -> dict[str, Any]:
    if "call" in request:
        with np.load(request["call"], allow_pickle=False) as stored:
            values = [stored[str(index)] for index in range(len(file.inputs))]
        results = [np.asarray(result) for result in file.call(values)]
        if sum(result.size for result in results) > LARGEST_RESULT:
            raise InvalidInput("its results are too large for embeddings")
        _save(request["result"], {str(index): result for index, result in enumerate(results)})
        return {}
    constants = [each for each in file.constants() if each.values.size >= LEAST]
    arrays = {str(index): each.values for index, each in enumerate(constants)}
    for index, each in enumerate(constants):
        if each.scale is not None:
            arrays |= {f"{index} scale": each.scale, f"{index} zero": np.asarray(each.zero)}
    _save(request["constants"], arrays)
    return {"names": [each.name[:200] for each in constants]}


def _save(path: str, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


if __name__ == "__main__":
    main()
