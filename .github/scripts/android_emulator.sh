#!/usr/bin/env bash
# Measures nano in the emulator that adb lists: by what the NDK built, by the ready runners with every runtime, and as a
# device farm would start it.
#   android_emulator.sh [benchmarks|farm]      one half alone
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need adb mobileclip-deploy
built=android_harness/build/x86_64/bin
quick=(--device android --quick)
if [[ ${1-benchmarks} == benchmarks ]]; then
	mobileclip-deploy benchmark out/nano-onnx-fp32 "${quick[@]}" --runners "$built" --json emulator.json
	mobileclip-deploy benchmark out/nano-{onnx,executorch,litert}-fp32 "${quick[@]}" --runners dist/emulator/*.zip \
		--json ready.json
fi
if [[ ${1-farm} == farm ]]; then
	adb install farm/app.apk
	adb install farm/test.apk
	adb shell am instrument -w -r org.mobileclipdeploy.farm.test/org.mobileclipdeploy.farm.FarmRunner | tee farm/said.txt
	grep -q "INSTRUMENTATION_STATUS_CODE: 0" farm/said.txt
	adb pull /data/local/tmp/mobileclip-farm/assets/results farm/results
	mobileclip-deploy report farm/results/*.run.json -o farm/report.html
fi
