#!/usr/bin/env bash
# Builds bench.apk, the app that measures by itself, with the SDK in ANDROID_HOME, a smoke test of nano in it. The AAR is
# the one that android_ndk.sh took from npm. Before it, the classes that tests take for Android's are held to the SDK's.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need javac mobileclip-deploy python ANDROID_HOME
platform=$(printf '%s\n' "$ANDROID_HOME"/platforms/android-*/android.jar | tail -n 1)
find tests/android_classes/android -name '*.java' -exec javac --release 11 -Xlint:-options -d build/android_classes {} +
java tests/android_classes/Compare.java build/android_classes "$platform"
mobileclip-deploy benchmark out/nano-onnx-fp32 --device android:app --quick --job app-job
python android_harness/app/build.py --aar android_harness/build/package/Plugins/Android/onnxruntime.aar --job app-job/* \
	--into bench.apk
