"""The suites behind the project's figures: each is one command.

    python benchmarks/suites.py folding            # or runtimes, precisions, peers, towers, paper, int8; or all
    python benchmarks/page.py                      # docs/figures/benchmarks.md from what was measured
    python benchmarks/suites.py guard              # what each setting of a runtime costs: see guard.py

Each suite is run by the package's own benchmark (samples in shuffled turns, answers checked) at least twice, with other
seeds, and on until the interval of every ratio is narrower than 5% or --runs are done; then the page says of which it
is not. The results go to benchmarks/results/SUITE-1.json, SUITE-2.json and so on, which `mobileclip-deploy report`
reads; results of another kind of processor stay, and have a table of their own. Ratios within a run mean something;
milliseconds of a shared machine do not. On a machine that is not quiet CPU time is what to compare, so everything runs
on one thread.
"""

import argparse
import itertools
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import guard
import pairs
from measuring import ROOT
from ratios import unsteady
from subjects import NANO_PRECISIONS, SIGLIP, Subjects

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.host.machine import describe
from mobileclip_deploy.benchmark.job import Protocol, get_protocol
from mobileclip_deploy.benchmark.request import Request, RunOptions
from mobileclip_deploy.benchmark.result import Device, Result
from mobileclip_deploy.benchmark.running import run_benchmark

RESULTS = ROOT / "benchmarks" / "results"
S0, S2 = "mobileclip2_s0", "mobileclip2_s2"
FEWEST, MOST = 2, 6
TARGETS = ("onnx", "executorch", "litert")
"""Those that are compared."""
RUNTIMES = {"onnxruntime": "ONNX Runtime", "executorch": "ExecuTorch (XNNPACK)", "litert": "LiteRT (XNNPACK)"}


@dataclass(frozen=True)
class Suite:
    """A claim, what is measured for it, and words of the label and place that ratios are taken to.

    `within`: fields of a cell that its base has in common with it; the base is one for all where there are none.
    `parts`: what the claim says, in place of {}, of cells whose label or runtime holds a word. `pairs`: both towers of
    a network are one row, with ratios to each of `pairs.PEERS` (`base` is then unused).
    """

    title: str
    claim: str
    base: str
    request: Callable[[Subjects], Request]
    within: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    pairs: bool = False

    def claimed(self, run: Result | None = None) -> str:
        """The claim, of what was measured in a run; of everything where there is none."""
        cells = [" ".join(self.parts)] if run is None else [f"{cell.label} {cell.runtime}" for cell in run.job.cells]
        told = [text for word, text in self.parts.items() if any(word in cell for cell in cells)]
        return self.claim.replace("{}", " and ".join(filter(None, (", ".join(told[:-1]), *told[-1:]))))


def _open(*paths: Path) -> tuple[Bundle, ...]:
    return tuple(Bundle.open(path) for path in paths)


def _folding(subjects: Subjects) -> Request:
    checkpoint = subjects.checkpoint(S0)
    return Request(
        _open(subjects.bundle(S0, "onnx")),
        torch=("unfolded", "folded", "compiled"),
        towers=("image",),
        checkpoint_of=lambda _: checkpoint,
    )


def _runtimes(subjects: Subjects) -> Request:
    bundles = [subjects.bundle(variant, target) for variant in (S0, "nano") for target in TARGETS]
    return Request(_open(*bundles))


def _precisions(subjects: Subjects) -> Request:
    """Without bundles that miss their parity gate: no time is given for wrong answers."""
    wanted = [choice for choice in NANO_PRECISIONS if choice[0] not in ("coreml", "coreai", "qnn", "mlx")]
    bundles = _open(*(subjects.bundle("nano", *choice) for choice in wanted))
    return Request(tuple(bundle for bundle in bundles if _answers_rightly(bundle)))


def _answers_rightly(bundle: Bundle) -> bool:
    return all(check.status == "passed" for check in bundle.parity if check.step == "shipped")


def _peers(subjects: Subjects) -> Request:
    return Request(
        _open(*(subjects.bundle(S0, target) for target in TARGETS)),
        against=(subjects.plain_onnx(S0), subjects.stock_pte(S0), subjects.plain_tflite(S0)),
    )


def _paper(subjects: Subjects) -> Request:
    networks = [name for name in (*pairs.VARIANTS, *pairs.PEERS) if name != SIGLIP]
    return Request(
        _open(*(subjects.pair(name, target) for target in TARGETS for name in networks)),
        against=tuple(path for target in TARGETS for path in subjects.siglip(target)),
    )


def _towers(subjects: Subjects) -> Request:
    variants = (S0, S2, "mobileclip2_b", "clip_vit_b16")
    return Request(_open(*(subjects.bundle(variant, "onnx") for variant in variants)))


def _int8(subjects: Subjects) -> Request:
    choices = [("onnx", "fp32"), *((target, "w8a8") for target in TARGETS)]
    return Request(_open(*(subjects.bundle(variant, *choice) for variant in (S0, S2) for choice in choices)))


SUITES = {
    "folding": Suite(
        "Folding",
        "S0's image tower (MCi0, 256 px) as it was trained, folded, compiled, and folded in ONNX Runtime.",
        "torch unfolded",
        _folding,
    ),
    "runtimes": Suite(
        "Runtimes",
        "The same folded towers in {}.",
        "onnxruntime",
        _runtimes,
        within=("variant",),
        parts=RUNTIMES,
    ),
    "precisions": Suite(
        "Precisions",
        "nano, the built-in trained network: the time of every precision that this machine can run, against the same "
        "target's fp32; docs/figures/precisions.md has the accuracy.",
        "-fp32 ",
        _precisions,
        within=("target",),
    ),
    "peers": Suite(
        "Peers",
        "The same weights through others' recipes: open_clip's own S0 image tower {}.",
        "plain",
        _peers,
        parts={
            "plain.onnx": "by torch.onnx.export as it is",
            "stock.pte": "by ExecuTorch's documented XNNPACK recipe",
            "plain.tflite": "by litert_torch.convert as documented",
        },
    ),
    "paper": Suite(
        "The paper's pairs",
        "Both towers together, one picture and one prompt: S0, S1, S2, B and MobileCLIP2-S0 against OpenAI's and "
        "SigLIP's ViT-B/16 at 224 pixels, in {}. Apple's README has S0 4.8 times as fast as OpenAI's and 2.8 times "
        "smaller, and S2 2.3 times as fast as SigLIP's and 2.1 times smaller, on an iPhone 12 Pro Max. At equal rates: "
        "the ratio of the multiply-adds.",
        "",
        _paper,
        parts=RUNTIMES,
        pairs=True,
    ),
    "towers": Suite(
        "The paper's image towers",
        "Image towers of S0, S2 and B against OpenAI's ViT-B/16, in one runtime. The paper's are 1.5, 3.6, 10.4 and "
        "11.5 ms on an iPhone 12 Pro Max's Neural Engine: 7.7, 3.2, 1.1 and 1 times as fast. They are 4.8, 15.7, 35.4 "
        "and 35.1 G operations: at equal rates S0 would be 7.4 and S2 2.2 times as fast.",
        "clip_vit_b16",
        _towers,
    ),
    "int8": Suite(
        "Integers of 8 bits",
        "Image towers of S0 and S2 at `w8a8` in {}, against float32 in ONNX Runtime.",
        "-onnx-fp32 ",
        _int8,
        within=("variant",),
        parts=RUNTIMES,
    ),
}


def protocol_named(name: str) -> Protocol:
    """The package's protocols, and `short`, for machines that are not quiet: fewer inferences, in shorter turns."""
    if name != "short":
        return get_protocol(name)
    changes = {"name": "short", "warm_up_iterations": 3, "rounds": 3, "iterations_per_round": 10}
    return get_protocol("standard").model_copy(update=changes | {"seconds_per_round": 0.0})


def stored(name: str) -> list[Path]:
    """The results of a suite, in the order in which they were measured."""
    found = {path: re.fullmatch(rf"{name}-(\d+)\.json", path.name) for path in RESULTS.glob(f"{name}-*.json")}
    return sorted((path for path, match in found.items() if match), key=lambda path: int(found[path][1]))  # type: ignore[index]


def processor(device: Device) -> str:
    """Runs on the same one belong together: its name, which may be a family's, and what it multiplies with."""
    return " ".join((device.model, *device.instructions))


def by_processor(name: str) -> dict[str, dict[Path, Result]]:
    """The results of a suite and their files, those of each processor in the order in which they were measured."""
    found: dict[str, dict[Path, Result]] = {}
    for path in stored(name):
        result = read_result(path)
        found.setdefault(processor(result.device), {})[path] = result
    return found


def measure(name: str, subjects: Subjects, protocol: Protocol, most: int = MOST) -> None:
    """Run a suite until its ratios are steady, at most so often, and keep all results; runs of before on the same kind
    of processor are deleted, others' stay."""
    request, results = SUITES[name].request(subjects), list[Result]()
    for path in by_processor(name).get(processor(describe()), ()):
        path.unlink()
    others = {path.name for path in stored(name)}
    free = (path for number in itertools.count(1) if (path := RESULTS / f"{name}-{number}.json").name not in others)
    for number, output in enumerate(itertools.islice(free, most), start=1):
        shutil.rmtree(output.with_name(f"{output.name}.partial"), ignore_errors=True)

        def say(text: str, number: int = number) -> None:
            print(f"{name}, run {number}: {text}", file=sys.stderr, flush=True)

        options = RunOptions(protocol, output, number, force=True, profile=SUITES[name].pairs and number == 1)
        outcome = run_benchmark(request, get_driver("host"), options, say)
        failed = [cell for cell in outcome.result.cells if cell.status != "done"]
        assert not failed, [(cell.id, cell.error) for cell in failed]
        results.append(outcome.result)
        wide = pairs.unsteady_pairs(results) if SUITES[name].pairs else unsteady(SUITES[name], results)
        say(f"{len(wide)} of {len(outcome.result.cells)} ratios are not known within 5%")
        if number >= FEWEST and not wide:
            break
    if SUITES[name].pairs:
        print("\n\n".join(pairs.tables(results)))


def _guard(subjects: Subjects, planted: list[tuple[str, str]], against: bool) -> int:
    """Measure the guard's rows: keep them, or name what got slower than in those that are kept; then 1."""
    last = [path for path in stored("guard") if processor(guard.read(path).device) == processor(describe())]
    if against and not last:
        raise SystemExit("no results of this kind of processor are kept: run the guard without --against first")
    now = guard.measured(subjects, planted)
    if against:
        before = guard.read(last[-1])
        told = guard.slower(before, now)
        print("\n".join(told) or f"nothing is slower than in {last[-1].name}")
        print(f"load average: {before.load} before, {now.load} now")
        return 1 if told else 0
    if planted:
        raise SystemExit("what is planted is not kept: give --against")
    others = {path.name for path in stored("guard")} - {path.name for path in last}
    free = (path for number in itertools.count(1) if (path := RESULTS / f"guard-{number}.json").name not in others)
    next(free).write_text(now.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0


def main() -> None:
    """Measure the suites that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", choices=[*SUITES, "all", "guard"])
    parser.add_argument("--folder", type=Path, help="keep the bundles and files here, and use those that are there")
    parser.add_argument("--protocol", default="standard", help="standard, paper, mlperf, or short for a busy machine")
    parser.add_argument("--runs", type=int, default=MOST, help="of a suite, at most; by default %(default)s")
    parser.add_argument("--against", action="store_true", help="guard: name what got slower than in the last results")
    parser.add_argument("--plant", metavar="NAME=VALUE", help="guard: an option for every session of ONNX Runtime")
    arguments = parser.parse_args()
    protocol = protocol_named(arguments.protocol)
    names = list(SUITES) if "all" in arguments.suites else arguments.suites
    with tempfile.TemporaryDirectory(prefix="mobileclip-suites-") as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if names == ["guard"]:
            planted = [tuple(arguments.plant.split("=", 1))] if arguments.plant else []
            sys.exit(_guard(Subjects(folder), planted, arguments.against))
        for name in names:
            measure(name, Subjects(folder), protocol, arguments.runs)


if __name__ == "__main__":
    main()
