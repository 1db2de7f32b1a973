"""A stand-in for Qualcomm's QAIRT SDK: qnn-net-run for a "phone" and qnn-profile-viewer for this machine.

It takes what public scripts give the real ones, and refuses what those are known to refuse: UbiquitousLearning/mllm's
scripts/push_qnn_lib.sh (which libraries lie where), tristanqiu8/qnn_test_flow's run_single_model.sh (the variables),
and scripts that quote the tool's own words "Could not create context from binary" and "Finished Executing Graphs",
and the columns of the viewer's table. A context here is a line with its architecture, and the weights of `tiny`.
"""

import sys
from pathlib import Path

from benchmark.android import tiny
from programs import script

VERSION = "2.40.0.251030114326"
LOOP_US = 1_000

NET_RUN = r"""
import json, os, sys
from pathlib import Path

VALUES = {"--backend", "--retrieve_context", "--input_list", "--output_dir", "--num_inferences", "--keep_num_outputs",
          "--perf_profile", "--profiling_level"}
FLAGS = {"--use_native_input_files", "--version"}


def refuse(text):
    sys.exit(f"     0.0ms [ ERROR ] {text}")


words, given = sys.argv[1:], {}
while words:
    word = words.pop(0)
    if word in FLAGS:
        given[word] = True
    elif word in VALUES and words:
        given[word] = words.pop(0)
    else:
        refuse(f"Invalid argument passed: {word}")
if "--version" in given:
    print("QNN SDK v@VERSION@")
    sys.exit()
libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
if not any(Path(folder, given.get("--backend", "none")).is_file() for folder in libraries):
    refuse("Unable to load backend. dlopen failed: library not found")
architecture, weights = Path(given["--retrieve_context"]).read_bytes().split(b"\n", 1)
name = f"libQnnHtp{architecture.decode().upper()}"
skels = os.environ.get("ADSP_LIBRARY_PATH", "").split(";")
if not any(Path(folder, f"{name}Stub.so").is_file() for folder in libraries):
    refuse("Could not create context from binary")
if not any(Path(folder, f"{name}Skel.so").is_file() for folder in skels):
    refuse("Failed to load skel, error: 4000. Could not create context from binary")
sys.path[:0] = @PATH@
import numpy as np

matrix = np.frombuffer(weights, "<f4").reshape(-1, @WIDTH@)
lines = Path(given["--input_list"]).read_text().split("\n")
inputs = []
for line in filter(None, lines):
    tensor, colon, file = line.partition(":=")
    if tensor != "x" or " " in line:
        refuse(f"Invalid input list entry: {line}")
    content = Path(file).read_bytes()
    if len(content) != matrix.shape[0] * 4 or "--use_native_input_files" not in given:
        refuse(f"Incorrect amount of bytes: {len(content)} for tensor x")
    inputs.append(np.frombuffer(content, "<f4"))
count = int(given.get("--num_inferences", len(inputs)))
kept = int(given.get("--keep_num_outputs", count))
out = Path(given["--output_dir"])
for number in range(min(count, kept)):
    folder = out / f"Result_{number}"
    folder.mkdir(parents=True)
    (folder / "y.raw").write_bytes((inputs[number % len(inputs)] @ matrix).astype("<f4").tobytes())
if given.get("--profiling_level") == "basic":
    out.mkdir(exist_ok=True)
    (out / "qnn-profiling-data_0.log").write_text(json.dumps([@LOOP@ + number for number in range(count)]))
print("Finished Executing Graphs")
"""
VIEWER = r"""
import json, sys
from pathlib import Path

words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
times = json.loads(Path(words["--input_log"]).read_text())
rows = ["Msg Timestamp,Message,Time,Unit of Measurement,Timing Source,Event Level,Event Identifier"]
rows += ["1,INIT,40000,US,NETRUN,ROOT,"]
for time in times:
    rows += [f"2,EXECUTE,{time},US,NETRUN,ROOT,", f"2,EXECUTE,{time - 20},US,BACKEND,ROOT,QNN (execute) time",
             f"2,EXECUTE,{900 * time},CYCLES,BACKEND,ROOT,Accelerator (execute) time (cycles)"]
Path(words["--output"]).write_text("\n".join(rows) + "\n")
"""


def context(architecture: str) -> bytes:
    """A context binary of `tiny` for an architecture such as v75."""
    return f"{architecture}\n".encode() + tiny.weights().astype("<f4").tobytes()


def write_sdk(folder: Path, architectures: tuple[str, ...] = ("v73", "v75")) -> Path:
    """The SDK's folders, as far as they are used."""
    filled = NET_RUN.replace("@VERSION@", VERSION).replace("@WIDTH@", str(tiny.WIDTH)).replace("@LOOP@", str(LOOP_US))
    script(folder / "bin/aarch64-android/qnn-net-run", filled.replace("@PATH@", repr(sys.path)), sys.executable)
    script(folder / "bin/x86_64-linux-clang/qnn-profile-viewer", VIEWER, sys.executable)
    for name in ("Htp", "System", *(f"Htp{one.upper()}Stub" for one in architectures)):
        _write(folder / f"lib/aarch64-android/libQnn{name}.so", name)
    for one in architectures:
        _write(folder / f"lib/hexagon-{one}/unsigned/libQnnHtp{one.upper()}Skel.so", one)
    return folder


def _write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
