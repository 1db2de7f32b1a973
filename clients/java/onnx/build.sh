#!/bin/sh
# Builds build/mobileclip-onnx.jar: the engine on ONNX Runtime, without Kotlin.
#   build.sh [FOLDER [CORE [CLASSES]]]
# FOLDER: where the jar goes; CORE: mobileclip.jar, as ../build.sh makes it; CLASSES: ONNX Runtime's Java classes, as
# ../../kotlin/fetch.sh brings them, or com.microsoft.onnxruntime:onnxruntime's jar.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../build}
core=${2:-$here/../build/mobileclip.jar}
classes=${3:-$here/../../kotlin/build/classes.jar}
rm -rf "$out/onnx" && mkdir -p "$out/onnx/META-INF"
javac --release 8 -encoding UTF-8 -Xlint:all,-options -Werror -parameters -cp "$core:$classes" -d "$out/onnx" "$here"/mobileclip/*.java
cp "$here/../../../LICENSE" "$here/../../../NOTICE" "$out/onnx/META-INF/"
printf 'Implementation-Version: %s\nAutomatic-Module-Name: mobileclip.onnx\n' "$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../../pyproject.toml")" > "$out/onnx.txt"
jar --create --file "$out/mobileclip-onnx.jar" --manifest "$out/onnx.txt" --date 2026-01-01T00:00:00Z -C "$out/onnx" .
