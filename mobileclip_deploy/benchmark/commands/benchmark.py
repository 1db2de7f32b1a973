"""`benchmark`: how long bundles take on a device, and whether they answer rightly there."""

from pathlib import Path
from typing import TypedDict, Unpack

import click

from mobileclip_deploy.base.escaping import shown_json
from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, BundlePath
from mobileclip_deploy.cli.terminal import say


class BenchmarkChoices(TypedDict):
    """Options that are keywords of `benchmark`."""

    device: str
    protocol: str
    quick: bool
    tower: str
    seed: int | None
    runners: Path | None
    runtime_versions: dict[str, str]
    against: tuple[Path, ...]
    checkpoint: Path | None
    force: bool
    resume: bool
    team: str | None
    engine: str | None
    profile: bool


def _by_runtime(_context: click.Context, _option: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for word, (runtime, _, version) in zip(words, pairs, strict=True):
        if not runtime or not version:
            raise click.BadParameter(f"{word!r} is not RUNTIME=VERSION; write for example onnxruntime=1.31.0")
    return {runtime: version for runtime, _, version in pairs}


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=BundlePath(), metavar="BUNDLE...")
@click.option(
    "--device",
    default="host",
    show_default=True,
    metavar="KIND[:ID]",
    shell_complete=completion.names("benchmark.driver", "DRIVERS"),
    help="Device to measure on, as listed by `devices`. Of rented phones several: ddp:ID,ID.",
)
@click.option(
    "--protocol", default="standard", show_default=True, help="Measuring protocol: standard, paced, paper or mlperf."
)
@click.option("--quick", is_flag=True, help="Run a few inferences only, as a smoke test.")
@click.option(
    "--tower",
    type=click.Choice(["image", "text", "both"]),
    default="both",
    show_default=True,
    help="Towers to measure.",
)
@click.option(
    "--threads", default="1", show_default=True, metavar="N[,N...]", help="Thread counts of the runtime to measure."
)
@click.option(
    "--against",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="Competing model to measure too: .onnx, .pte or .tflite. May be repeated.",
)
@click.option(
    "--torch",
    "forms",
    metavar="FORM[,FORM]",
    help="Also time the checkpoint in PyTorch: unfolded, folded, compiled or all.",
)
@click.option(
    "--checkpoint", type=FILE, metavar="FILE", help="With --torch: checkpoint that the bundles were exported from."
)
@click.option(
    "--json",
    "output",
    type=FILE,
    metavar="FILE|-",
    help="File to write the result to; - also prints it, instead of the table. [default: benchmark-KIND-TIME.json]",
)
@click.option("--force", is_flag=True, help="Replace an existing result.")
@click.option("--resume", is_flag=True, help="Resume the interrupted run of --json FILE.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Seed of the order of rounds. [default: random]")
@click.option(
    "--team", envvar="MOBILECLIP_DEPLOY_TEAM", metavar="ID", help="Apple developer team that signs the iPhone's app."
)
@click.option("--runners", type=FILE, metavar="FILE", help="Programs for Android phones: their archive or folder.")
@click.option(
    "--runtime-version",
    "runtime_versions",
    multiple=True,
    callback=_by_runtime,
    metavar="RUNTIME=VERSION",
    help="With --device android: use another version of a runtime, from PyPI, such as onnxruntime=1.31.0. [default: "
    "the one that the programs' archive names]",
)
@click.option(
    "--engine",
    metavar="NAME",
    help="Another program to measure with: qnn-net-run, for a phone's NPU, from Qualcomm's SDK (docs/qualcomm.md).",
)
@click.option(
    "--job",
    "job_folder",
    type=FILE,
    metavar="FOLDER",
    help="Do not measure: write the job to this folder, for a phone that is not connected (docs/farms.md).",
)
@click.option("--profile", is_flag=True, help="Also record operator times, from one more inference.")
def benchmark(
    bundles: tuple[Path, ...],
    threads: str,
    forms: str | None,
    output: Path | None,
    job_folder: Path | None,
    **choices: Unpack[BenchmarkChoices],
) -> None:
    """Measure latencies of bundles on a device, in turns, each in a process of its own.

    A model with wrong answers to the golden inputs gets no latency, and the exit code is 1. The result is a JSON file,
    from which `report` makes a page. --json - prints it as well, and keeps it in a file of the usual name.

    \b
    Example:
      mobileclip-deploy benchmark out/nano-onnx-fp32 out/nano-executorch-fp32 --json result.json
      mobileclip-deploy benchmark out/mobileclip_s0-onnx-fp32 --tower image --torch all --checkpoint mobileclip_s0.pt
      mobileclip-deploy benchmark out/mobileclip_s0-onnx-fp32 --against someone_elses.onnx --threads 1,4
    """
    from mobileclip_deploy.benchmark.commands.tables import print_result
    from mobileclip_deploy.benchmark.door import benchmark as measure
    from mobileclip_deploy.benchmark.door import write_job
    from mobileclip_deploy.benchmark.judgement import run_warnings
    from mobileclip_deploy.benchmark.request import parse_threads
    from mobileclip_deploy.cli.output import conclude, note, progress

    if job_folder is not None:
        with progress() as update:
            written = write_job(
                bundles,
                job_folder,
                device=choices["device"],
                protocol=choices["protocol"],
                quick=choices["quick"],
                tower=choices["tower"],
                seed=choices["seed"],
                runners=choices["runners"],
                runtime_versions=choices["runtime_versions"],
                progress=update,
            )
        say(f"wrote {written}")
        return
    printed = output == Path("-")
    if printed and "," in choices["device"]:
        raise click.UsageError("--json - prints one result; name a file for several phones, as in --json rented.json")
    with progress() as update:
        outcome = measure(
            bundles,
            threads=parse_threads(threads),
            torch=forms or (),
            output=None if printed else output,
            progress=update,
            announce=note,
            **choices,
        )
    outcomes = (outcome, *outcome.others)
    if printed:
        say(shown_json(outcome.result.model_dump_json()))
    else:
        print_result(*(measured.result for measured in outcomes))
    for measured in outcomes:
        say(f"wrote {measured.output}", err=printed)
        left_out = (text for text in measured.left_out if text not in measured.result.left_out)
        for text in (*run_warnings(measured.result), *left_out):
            note(f"Note: {text}" if len(outcomes) == 1 else f"Note: {measured.output.name}: {text}")
    for error in outcome.lost:
        note(f"Note: {error.line}")
    if (failure := outcome.failure) is not None:
        conclude(failure)
