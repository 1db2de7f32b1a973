#!/usr/bin/env bash
# Installs the newest release of a runtime and of torch, whatever pyproject.toml allows; then the golden networks, and a
# bundle with all its checks. Run it in a new environment.
#   newest_runtime.sh onnx|executorch|coreml|litert|mlx|qnn
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need python
declare -A packages=(
	[onnx]="onnx onnxruntime onnxscript onnx-ir"
	[executorch]="executorch"
	[coreml]="coremltools"
	[litert]="ai-edge-litert litert-torch litert-converter"
	[mlx]="onnx onnxruntime onnxscript mlx[cpu]"
	[qnn]="onnx onnxruntime onnxscript onnxruntime-qnn"
)
names=${packages[${1:?name a runtime: ${!packages[*]}}]:?not known; known: ${!packages[*]}}
python -m pip install --quiet --editable ".[$1]" pytest
# pip says which of our bounds these leave, and goes on.
# shellcheck disable=SC2086 # several packages
python -m pip install --quiet --upgrade torch torchvision $names
python -m pip list --format freeze >versions.txt
python -m pytest -q tests/golden/test_goldens.py
mobileclip-deploy export --target "$1" -o out
mobileclip-deploy verify out/nano-"$1"-* --json >verify.json
