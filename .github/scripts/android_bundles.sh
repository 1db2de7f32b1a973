#!/usr/bin/env bash
# Exports nano for Android in out/, and packs a job with the runners for an emulator as the two APKs that a device farm
# gets, in farm/.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need mobileclip-deploy python
mobileclip-deploy export --target onnx,executorch,litert --precision fp32 -o out
mobileclip-deploy benchmark out/nano-onnx-fp32 out/nano-executorch-fp32 --device android --quick \
	--runners dist/emulator/*.zip --job job
python android_harness/farm/build.py job/* --into farm
