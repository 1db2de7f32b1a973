"""What devices send: forged answers and times, and runs that are none. Words over adb: benchmark/test_bounded.py."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import documents
from hostile.table import DEEP, Row, sparse, write

from mobileclip_deploy.benchmark.offline_jobs import save_expected

CELLS = tuple(cell.id for cell in documents.job().cells)
FIRST = CELLS[0]
RIGHT = next(iter(documents.EXPECTED.values()))
REPORT = ("report", "phone.run.json", "-o", "out.md")
PASSED = {"inputs": 2, "cosine": 1.0, "relative": 0.0, "passed": True}
Change = Callable[[dict[str, Any]], object]


def raw(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def run() -> dict[str, Any]:
    """What a phone sends: two rounds of each cell, with right answers, and a good opinion of itself."""
    document = documents.sent().model_dump(mode="json")
    document["rounds"] = [
        {"run_id": document["run_id"], "cell": cell, "round": number, "status": "done", "samples_ns": [5_000_000] * 3}
        | ({"answers": raw(RIGHT), "golden": PASSED} if number == 0 else {})
        for cell in CELLS
        for number in range(2)
    ]
    return document


def sent(change: Change, known: bool = True) -> Callable[[Path], object]:
    """Writes a run with one thing changed; `known`: its job was written by this user."""

    def make(folder: Path) -> None:
        document = run()
        change(document)
        (folder / "phone.run.json").write_text(json.dumps(document), encoding="utf-8")
        if known:
            save_expected(documents.job(), documents.EXPECTED)

    return make


def first(**changes: Any) -> Change:
    return lambda document: document["rounds"][0].update(changes)


def answers(field: str, change: Change) -> Row:
    return Row("answers", field, sent(change), REPORT, f"wrong answers, no latency: {FIRST}", code=0)


def changed(index: tuple[int, int], value: float) -> np.ndarray[Any, Any]:
    values = RIGHT.copy()
    values[index] = value
    return values


FORGED = {
    "zeros": 0 * RIGHT,
    "ones": 0 * RIGHT + 1,
    "negated": -RIGHT,
    "times 100": 100 * RIGHT,
    "halved": RIGHT / 2,
    "a part in a thousand off": RIGHT * 1.001,
    "one number off": changed((1, 3), 3.01),
    "not a number": changed((0, 0), np.nan),
    "infinity": changed((1, 1), np.inf),
    "minus infinity": changed((1, 1), -np.inf),
    "the largest float": changed((0, 2), np.finfo(np.float32).max),
    "the smallest float everywhere": 0 * RIGHT + np.float32(1e-45),
    "of each other's inputs": RIGHT[::-1],
    "of the first input, twice": RIGHT[[0, 0]],
    "shifted by one number": np.roll(RIGHT, 1, axis=1),
    "to one input": RIGHT[:1],
    "to three inputs": RIGHT[[0, 1, 1]],
    "to a thousand inputs": np.repeat(RIGHT, 500, axis=0),
    "of half the numbers": RIGHT[:, :2],
    "two million numbers": np.zeros(2_000_000),
}
ANSWERS = (
    *(answers(name, first(answers=raw(values))) for name, values in FORGED.items()),
    answers("none", first(answers=None)),
    answers("none, and a verdict", first(answers=None, golden=PASSED)),
    answers("none, and no verdict", lambda d: (d["rounds"][0].pop("answers"), d["rounds"][0].pop("golden"))),
    answers("empty", first(answers="")),
    answers("half a number", first(answers=base64.b64encode(RIGHT.tobytes()[:-2]).decode())),
    answers("float64", first(answers=base64.b64encode(RIGHT.astype("<f8").tobytes()).decode())),
    answers("in the other order of bytes", first(answers=base64.b64encode(RIGHT.astype(">f4").tobytes()).decode())),
    answers("text", first(answers=base64.b64encode(b"passed").decode())),
    answers("in the second round alone", lambda d: d["rounds"][1].update(answers=d["rounds"][0].pop("answers"))),
    answers("wrong, and right in the second round", lambda d: (d["rounds"][0].update(answers=raw(-RIGHT)),
                                                               d["rounds"][1].update(answers=raw(RIGHT)))),
    answers("the device itself calls the round invalid", first(status="invalid")),
)  # fmt: skip


def times(
    field: str,
    change: Change,
    line: str = f"impossible: samples below the possible minimum, not real latencies: {FIRST}",
) -> Row:
    return Row("times", field, sent(change), REPORT, line, code=0)


TIMES = (
    times("a nanosecond", lambda d: [one.update(samples_ns=[1, 1, 1]) for one in d["rounds"][:2]]),
    times("one of a nanosecond among others", lambda d: d["rounds"][1].update(samples_ns=[5_000_000, 1, 5_000_000])),
    times("99 nanoseconds", first(samples_ns=[99] * 3)),
    times("a nanosecond of CPU time beside", first(samples_ns=[2, 2, 2], cpu_ns=1)),
    times("the mean of very many", first(samples_ns=[1] * 3, inferences_per_sample=2**53 - 1)),
    times("of a million inferences", first(samples_ns=[1] * 100_000)),
)


def alone(field: str, change: Change) -> Row:
    """A run whose job this user has not written."""
    return Row("self-reported", field, sent(change, known=False), REPORT, "self-reported: the device measured", code=0)


SELF_REPORTED = (
    alone("right answers", lambda d: None),
    alone("wrong answers", first(answers=raw(-RIGHT))),
    alone("no answers", first(answers=None)),
    alone("a verdict", first(golden=PASSED, answers=None)),
    alone("another computer's job", lambda d: (d["job"].update(run_id="other"), d.update(run_id="other"),
                                               [one.update(run_id="other") for one in d["rounds"]])),
)  # fmt: skip

NONE = "is no benchmark run of schema version 1: "


def refused(field: str, change: Change, line: str) -> Row:
    return Row("run", field, sent(change, known=False), REPORT, f"phone.run.json {NONE}{line}")


def text(field: str, content: str | bytes, line: str) -> Row:
    return Row("run", field, write("phone.run.json", content), REPORT, line)


def altered(field: str, change: Change) -> Row:
    made = sent(lambda document: change(document["job"]))
    return Row("altered job", field, made, REPORT, "the device ran another job than the one written here")


RUNS = (
    altered("a gate that all pass", lambda job: job["cells"][0]["gate"].update(bound=1e9)),
    altered("no golden inputs", lambda job: job["cells"][0].update(golden=None, gate=None)),
    altered("a competitor", lambda job: job["cells"][0].update(competitor=True)),
    altered("one golden input", lambda job: job["protocol"].update(golden_inputs=1)),
    altered("other golden inputs", lambda job: job["cells"][0]["golden"]["inputs"].update(file="a")),
    altered("another output", lambda job: job["cells"][0]["output"].update(shape=[1, 1])),
    refused("a round twice", lambda d: d["rounds"].append(d["rounds"][0]), "rounds differ from the job's"),
    refused(
        "a round too many",
        lambda d: d["rounds"].append(d["rounds"][1] | {"round": 2}),
        "rounds differ from the job's",
    ),
    refused("another cell's round", first(cell="another"), "rounds differ from the job's"),
    refused("a cell that is a path", first(cell="../../x"), "rounds.0.cell"),
    refused("a round before the first", first(round=-1), "rounds.0.round"),
    refused("a round of 2^53", first(round=2**53), "rounds.0.round"),
    refused("half a round", first(round=0.5), "rounds.0.round"),
    refused("another run's id", lambda d: d.update(run_id="another"), "run_id differs from the job's"),
    refused("no id", lambda d: d.pop("run_id"), "run_id"),
    refused("a status of its own", first(status="passed"), "rounds.0.status"),
    refused("a sample below zero", first(samples_ns=[-1]), "rounds.0.samples_ns.0"),
    refused("a sample that is text", first(samples_ns=["1"]), "rounds.0.samples_ns.0"),
    refused("a sample that is true", first(samples_ns=[True]), "rounds.0.samples_ns.0"),
    refused("half a nanosecond", first(samples_ns=[0.5]), "rounds.0.samples_ns.0"),
    refused("samples that are a number", first(samples_ns=1), "rounds.0.samples_ns"),
    refused("a sample of 2^53", first(samples_ns=[2**53]), "rounds.0.samples_ns.0"),
    refused("CPU time below zero", first(cpu_ns=-1), "rounds.0.cpu_ns"),
    refused("answers that are a number", first(answers=7), "rounds.0.answers"),
    refused("answers that are a list", first(answers=[1.0]), "rounds.0.answers"),
    refused("answers that are no base64", first(answers="AAA"), "rounds.0.answers"),
    refused("a verdict that is text", first(golden="passed"), "rounds.0.golden"),
    refused("a cosine that is text", first(golden=PASSED | {"cosine": "1"}), "rounds.0.golden.cosine"),
    refused("memory below zero", first(peak_memory_bytes=-1), "rounds.0.peak_memory_bytes"),
    refused("an error that is a list", first(error=["x"]), "rounds.0.error"),
    refused("warnings that are a word", first(warnings="x"), "rounds.0.warnings"),
    refused("a thermal state of its own", first(thermal_state="cool"), "rounds.0.thermal_state"),
    refused("a core below zero", first(cores=[{"core": -1, "inferences": 1}]), "rounds.0.cores.0.core"),
    refused("a field of its own", first(latency_ns=1), "rounds.0.latency_ns"),
    refused("a result's field", lambda d: d.update(self_reported=False), "self_reported"),
    refused("a device of its own kind", lambda d: d["device"].update(kind="toaster"), "device.kind"),
    refused("a device that is no stand-in in words", lambda d: d["device"].update(simulated="no"), "device.simulated"),
    refused("no cores", lambda d: d["device"].update(cores=0), "device.cores"),
    refused("a version to come", lambda d: d.update(schema_version=2), "schema_version"),
    refused("no job", lambda d: d.pop("job"), "job"),
    refused("a job of fewer turns", lambda d: d["job"]["order"].pop(), "job: order must hold every round"),
    refused("a job without cells", lambda d: d["job"].update(cells=[], order=[]), "job.cells"),
    refused("rounds that are none", lambda d: d.update(rounds=None), "rounds"),
    refused("rounds that are numbers", lambda d: d.update(rounds=[1, 2]), "rounds.0"),
    text("cut off", json.dumps(run())[:-30], "phone.run.json is no benchmark"),
    text(
        "not text",
        b"\xff\xfe" + json.dumps(run()).encode(),
        "phone.run.json cannot be read: byte 1 is not valid UTF-8",
    ),
    text("a number that is none", json.dumps(run()).replace("5000000", "NaN"), "phone.run.json is no benchmark"),
    text("nested", '{"rounds": ' + DEEP, "phone.run.json is no benchmark"),
    text("a list", "[1]", "phone.run.json is no benchmark"),
    Row(
        "run",
        "300 MB",
        sparse("phone.run.json", 300 << 20),
        REPORT,
        "is larger than the limit for such a file",
        alone=True,
    ),
    Row(
        "run",
        "a million fields",
        write("phone.run.json", '{"rounds": [' + '{"a": 1},' * 10**6 + "{}]}"),
        REPORT,
        "has more fields than",
        alone=True,
    ),
)
ROWS = (*ANSWERS, *TIMES, *SELF_REPORTED, *RUNS)
