"""CPU seconds of `embed` and `classify`, with those of a script of the same packages (benchmarks/plain_script.py).

    python benchmarks/throughput.py BUNDLE [ROUNDS]

Pictures are 2,000 copies of the packaged photographs (about 600 x 400 pixels), and nano's 1,911 of 72 pixels, whose
time is mostly that of starting. Each round runs all programs, each time another one first; a ratio is that
of two programs of one round. Writes benchmarks/results/throughput.json and a table in docs/figures/apps.md.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import ROOT, Figures, markdown, processor, versions

KEPT = Figures("throughput", "figures/apps.md")
PICTURES = ROOT / "models" / "nano" / "evaluation" / "images"
COPIES = 2000
LABELS = ("cat face", "pizza", "automobile")
PACKAGES = ("numpy", "onnxruntime", "pillow", "tokenizers")


def programs(bundle: Path, folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """The commands of each row: the toolkit's and the script's."""
    toolkit = [sys.executable, "-m", "mobileclip_deploy"]
    script = [sys.executable, str(ROOT / "benchmarks" / "plain_script.py")]
    picture = str(PICTURES / "1f431.png")
    rows = {
        "classify one picture": (
            [*toolkit, "classify", str(bundle), picture, "--labels", ",".join(LABELS)],
            [*script, "classify", str(bundle), "2", picture, *LABELS],
        )
    }
    for title, pictures, threads in (
        ("embed photographs, 1 thread", folder / "photographs", "1"),
        ("embed photographs, 2 threads", folder / "photographs", "2"),
        ("embed pictures of 72 pixels, 2 threads", PICTURES, "2"),
    ):
        rows[title] = (
            [
                *toolkit,
                "embed",
                str(bundle),
                str(pictures),
                "-o",
                str(folder / "a.npy"),
                "--workers",
                threads,
                "--force",
            ],
            [*script, "embed", str(bundle), threads, str(pictures), str(folder / "script.npy")],
        )
    return rows


def copy_photographs(folder: Path) -> None:
    """Fills a folder with copies of the packaged photographs."""
    folder.mkdir()
    photographs = sorted((ROOT / "mobileclip_deploy" / "network" / "samples").glob("*.jpg"))
    for number in range(COPIES):
        shutil.copyfile(photographs[number % len(photographs)], folder / f"{number}.jpg")


def cpu_seconds(command: list[str]) -> tuple[float, float]:
    """CPU seconds of a program, all its threads, and its peak memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main(bundle: Path, rounds: int) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        copy_photographs(Path(name) / "photographs")
        for title, pair in programs(bundle, Path(name)).items():
            measured = []
            for number in range(rounds + 1):  # the first warms the disk's cache
                order = (0, 1) if number % 2 else (1, 0)
                by_program = {index: cpu_seconds(pair[index]) for index in order}
                measured.append((by_program[0], by_program[1]))
            kept = measured[1:]
            ratios = sorted(ours[0] / script[0] for ours, script in kept)
            rows.append(
                {
                    "row": title,
                    "ratio": statistics.median(ratios),
                    "least": ratios[0],
                    "most": ratios[-1],
                    "difference_s": statistics.median(ours[0] - script[0] for ours, script in kept),
                    "megabytes": [round(max(each[index][1] for each in kept)) for index in (0, 1)],
                }
            )
            print(rows[-1], file=sys.stderr)
    KEPT.write_rows(rows, processor=processor(), versions=versions(*PACKAGES), bundle=bundle.name, rounds=rounds)
    show()


def show() -> None:
    rows = [
        (
            row["row"],
            f"{row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f})",
            f"{row['difference_s']:+.1f}",
            f"{row['megabytes'][0]}, {row['megabytes'][1]}",
        )
        for row in KEPT.rows()
    ]
    heads = ("nano at fp16", ">CPU time of the toolkit / script's", ">difference, s", ">MB at most: toolkit, script")
    KEPT.show("\n".join(markdown(heads, rows)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7)
