#!/usr/bin/env bash
# The Swift harness in Swift 6 and in Swift 5 mode; then a bundle in Core ML itself, on the processor alone: the GPU of
# GitHub's virtual machines ends the process that computes on it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need swift mobileclip-deploy
swift test --package-path ios_harness/HarnessCore --scratch-path build/swift/6
swift build --package-path ios_harness/HarnessCore --scratch-path build/swift/5 -Xswiftc -swift-version -Xswiftc 5
export MOBILECLIP_COREML_UNITS=cpuOnly
mobileclip-deploy export --target coreml --precision fp16 -o out
mobileclip-deploy verify out/nano-coreml-fp16 --markdown verify.md
mobileclip-deploy benchmark out/nano-coreml-fp16 --device mac --quick --json mac.json
mobileclip-deploy report mac.json -o mac.html
