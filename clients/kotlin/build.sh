#!/bin/sh
# Builds build/mobileclip-kotlin.jar: the engine on ONNX Runtime.
#   build.sh COMPILER ONNXRUNTIME [FOLDER]
# COMPILER: the folder `lib` of npm's kotlin-compiler; ONNXRUNTIME: a jar with ai.onnxruntime (an AAR's classes.jar).
# clients/java/build.sh has run.
set -eu
compiler=$1 runtime=$2
here=$(cd "$(dirname "$0")" && pwd)
out=${3:-$here/build}
core=${MOBILECLIP_JAR:-$here/../java/build/mobileclip.jar}
mkdir -p "$out"
java -cp "$compiler/kotlin-compiler.jar" org.jetbrains.kotlin.cli.jvm.K2JVMCompiler -no-reflect -jvm-target 1.8 -Werror \
	-module-name mobileclip -classpath "$runtime:$core" -d "$out/mobileclip-kotlin.jar" "$here"/src/mobileclip/*.kt
