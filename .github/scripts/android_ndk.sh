#!/usr/bin/env bash
# Builds the harness with the NDK in ANDROID_NDK_LATEST_HOME, for phones and for an emulator on a PC:
# android_harness/build/{arm64-v8a,x86_64}/bin. ONNX Runtime for Android is the AAR that npm has.
set -euo pipefail
cd "$(dirname "$0")/../../android_harness"
. ../.github/scripts/need.bash
need npm cmake ANDROID_NDK_LATEST_HOME
package=com.github.asus4.onnxruntime
[[ -f build/$package.tgz ]] || (mkdir -p build && cd build && npm pack --silent "$package@0.4.9" && mv $package-*.tgz $package.tgz)
tar -xzf "build/$package.tgz" -C build package/Plugins/Android/onnxruntime.aar
for abi in arm64-v8a x86_64; do
	ANDROID_NDK=$ANDROID_NDK_LATEST_HOME cmake --preset android-arm64 -B "build/$abi" -DANDROID_ABI="$abi" \
		-DNLOHMANN_JSON_INCLUDE=/usr/include -DONNXRUNTIME_AAR="$PWD/build/package/Plugins/Android/onnxruntime.aar"
	cmake --build "build/$abi"
done
