#!/usr/bin/env bash
# Builds the iPhone's app and the test for device farms, unsigned, and packs the app as build/MobileCLIPBench-unsigned.ipa,
# which whoever has a certificate signs.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need xcodebuild zip
xcodebuild -downloadPlatform iOS
unsigned=(-configuration Release -destination generic/platform=iOS CODE_SIGNING_ALLOWED=NO)
xcodebuild -project ios_harness/App/MobileCLIPBench.xcodeproj -scheme MobileCLIPBench -derivedDataPath build/device \
	"${unsigned[@]}" build
rm -rf build/ipa build/MobileCLIPBench-unsigned.ipa
mkdir -p build/ipa/Payload
cp -R build/device/Build/Products/Release-iphoneos/MobileCLIPBench.app build/ipa/Payload/
(cd build/ipa && zip -qry ../MobileCLIPBench-unsigned.ipa Payload)
xcodebuild -project ios_harness/Farm/MobileCLIPFarm.xcodeproj -scheme MobileCLIPFarm -derivedDataPath build/farm \
	"${unsigned[@]}" build-for-testing
