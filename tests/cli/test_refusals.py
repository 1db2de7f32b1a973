"""Refusals that need no network come before torch, which takes more than a second of CPU time to import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from exports import Exports
from programs import output

# As on the command line. `none` is nowhere, `text` is a file of text, `empty` an empty folder, `few` one with one
# picture, `header.csv` a table without a row, `one.csv` one with one class; `bundle` and `out.safetensors` are there.
REFUSED = """
export
export --target tflite
export --target executorch-metal
export --target onnx --precision w9
export --target onnx --precision w6p
export --target onnx --precision image=fp16,texts=fp32
export --target onnx --deployment-target iOS17
export --target coreml --deployment-target iOS99
export --target onnx --variant s9
export --target onnx --variant mobileclip_s0
export --target onnx --checkpoint none
export --target onnx --checkpoint text
export --target onnx --checkpoint empty
export --target onnx --checkpoint hf:
export --target onnx --download
export --target onnx --variant nano --download
export --target onnx --contexts 1,a
export --target onnx --contexts 16 --tower image
export --layout none
export --layout none.json
export --layout immich --target coreml
export --target onnx --labels cat
export --target onnx --labels none.txt
export --target onnx --template {}
export --target onnx --labels a,b --normalise
export --target onnx --labels a,b --tower text
export --target onnx --calibration empty
export --target onnx --precision w8a8 --calibration empty
export --target onnx --rounding gptq
export --target onnx --precision w8 --rounding gptq --calibration none
export --target onnx --precision smallest --precision fp32
export --target onnx --max-drop 1
export --target onnx --precision smallest --max-drop -1
export --target onnx --gate taste=1
export --target onnx --gate cosine
export --target coreml --input bytes
export --target onnx --labels a,b --precision smallest
verify none
verify empty
verify bundle --dataset none
verify bundle --dataset header.csv
verify bundle --checkpoint text
evaluate none
evaluate empty
evaluate text
evaluate --suite datacomp
evaluate --class-names none
evaluate --dataset none
evaluate --dataset empty
evaluate --dataset text
evaluate --dataset header.csv
evaluate --dataset one.csv
evaluate --dataset one.csv --task retrieval
evaluate --dataset few
evaluate --suite datacomp --data none
evaluate --suite datacomp --data empty
evaluate --suite datacomp --data empty --html text
evaluate bundle --dataset none
evaluate bundle --template cat
inspect none
inspect text
lint none
lint text
lint empty
search none cat
search text cat
search text --image none.png
bridge --from none --by none -o small.mcdx
bridge --from text --by text -o small.mcdx
train none -o x
train text -o x
train empty -o x
reinforce none -o x
reinforce empty -o x
reinforce few -o x --teacher none
export --target onnx -o text
export --target onnx --dataset none
export --target onnx --dataset empty
export --target onnx --precision w8 --rounding gptq --calibration empty
export --target onnx --precision w8 --rounding gptq --calibration few
export --target onnx --embedding-size 64 --fit none
export --target onnx --embedding-size 64 --fit empty
export --target onnx --embedding-size 64 --fit few
export --target onnx --background none
export --target onnx --background empty
export --target onnx --background few
export --target onnx --dataset text
export --target onnx --dataset header.csv
reparameterize -o out.safetensors
reparameterize -o x.txt
reparameterize -o x.safetensors --checkpoint none
convert none --layout apple -o x.pt
convert text --layout apple -o x.pt
benchmark none
benchmark bundle --device sun
benchmark bundle --protocol swift
benchmark bundle --threads 0
benchmark bundle --torch folder
benchmark bundle --resume
benchmark bundle --against none.onnx
benchmark bundle --against text
verify bundle --gate taste=1
sweep none -o x
sweep text -o x
report none
layouts none
demo none
classify none a.png
classify bundle a.png --labels a
embed none a -o x.npy
embed bundle few -o text
embed bundle few -o x.npy --prune
embed bundle few -o out.safetensors
compare none none
compare bundle none
compare bundle --dataset none
compare bundle --dataset header.csv
compare bundle --gate taste=1
compare bundle --checkpoint none
"""

PROGRAM = """
import json, sys
from mobileclip_deploy.cli import cli
from mobileclip_deploy.errors import MobileClipDeployError

heavy, accepted = [], []
for line in sys.stdin.read().strip().splitlines():
    try:
        cli.main(line.split(), standalone_mode=False)
        accepted.append(line)
    except MobileClipDeployError:
        pass
    if "torch" in sys.modules:
        heavy.append(line)
        break  # it stays imported
print(json.dumps([heavy, accepted]))
"""


def test_torch_is_not_imported_for_them(tmp_path: Path, exports: Exports) -> None:
    for name in ("empty", "few"):
        (tmp_path / name).mkdir()
    (tmp_path / "few" / "one.png").write_bytes(b"counted, not read")
    for name in ("text", "out.safetensors"):
        (tmp_path / name).write_text("x")
    (tmp_path / "header.csv").write_text("image,label\n")
    (tmp_path / "one.csv").write_text("image,label\nfew/one.png,cat\n")
    (tmp_path / "bundle").symlink_to(exports.unverified("onnx", "fp32", "both").path)
    assert json.loads(output(sys.executable, "-c", PROGRAM, input=REFUSED, cwd=tmp_path).splitlines()[-1]) == [[], []]


@pytest.mark.usefixtures("without_phones")
def test_torch_is_not_imported_to_list_devices() -> None:
    program = "import sys; from mobileclip_deploy.cli import cli; cli.main(['devices'], standalone_mode=False)\n"
    program += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, "host" in done.stdout) == (0, True), done.stderr
