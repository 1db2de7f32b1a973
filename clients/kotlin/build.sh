#!/bin/sh
# Builds build/mobileclip-onnx.jar, the engine on ONNX Runtime (clients/java/onnx), and build/mobileclip-kotlin.jar: what
# Kotlin adds, for apps of Kotlin 2.1 and newer.
#   build.sh [FOLDER [CORE [FETCHED]]]
# FOLDER: where the jars go; CORE: mobileclip.jar, as clients/java/build.sh makes it; FETCHED: the folder of fetch.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/build}
core=${2:-$here/../java/build/mobileclip.jar}
fetched=${3:-$here/build}
root=$here/../..
rm -rf "$out/classes" && mkdir -p "$out/classes/META-INF"
"$here/../java/onnx/build.sh" "$out" "$core" "$fetched/classes.jar"
java -cp "$fetched/lib/kotlin-compiler.jar" org.jetbrains.kotlin.cli.jvm.K2JVMCompiler -no-reflect -jvm-target 1.8 \
	-language-version 2.1 -api-version 2.1 -Xsuppress-version-warnings -Werror -module-name mobileclip \
	-classpath "$fetched/classes.jar:$out/mobileclip-onnx.jar:$core" -d "$out/classes" "$here"/src/mobileclip/*.kt
cp "$root/LICENSE" "$root/NOTICE" "$out/classes/META-INF/"
printf 'Implementation-Version: %s\nAutomatic-Module-Name: mobileclip.kotlin\n' "$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")" > "$out/manifest.txt"
jar --create --file "$out/mobileclip-kotlin.jar" --manifest "$out/manifest.txt" --date 2026-01-01T00:00:00Z -C "$out/classes" .
