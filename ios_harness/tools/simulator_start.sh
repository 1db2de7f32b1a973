#!/usr/bin/env bash
# Builds the app for the iOS simulator, starts it there, and has it make the folders of a run: shows that it starts, reads
# its launch arguments and ends. A simulator has no Neural Engine, and measures nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need xcrun xcodebuild python3
bundle=dev.mobileclip.bench.simulator

device=$(xcrun simctl list devices available --json | python3 -c '
import json, sys
found = json.load(sys.stdin)["devices"]
phones = [one["udid"] for system in sorted(found, reverse=True) if "iOS" in system
          for one in found[system] if "iPhone" in one["name"]]
sys.exit("no simulator of an iPhone is here: xcodebuild -downloadPlatform iOS") if not phones else print(phones[0])')
xcrun simctl boot "$device" 2>/dev/null || true
xcrun simctl bootstatus "$device"
xcodebuild -project ios_harness/App/MobileCLIPBench.xcodeproj -scheme MobileCLIPBench -configuration Release \
	-destination "platform=iOS Simulator,id=$device" -derivedDataPath build/simulator \
	PRODUCT_BUNDLE_IDENTIFIER=$bundle CODE_SIGNING_ALLOWED=NO build
xcrun simctl install "$device" build/simulator/Build/Products/Release-iphonesimulator/MobileCLIPBench.app
xcrun simctl launch --console-pty "$device" $bundle --prepare first-start --folder models/a --exit
documents=$(xcrun simctl get_app_container "$device" $bundle data)/Documents
test -d "$documents/runs/first-start/models/a"
test -d "$documents/results/first-start"
echo "the app started in the simulator and made the folders in $documents"
