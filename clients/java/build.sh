#!/bin/sh
# Builds build/mobileclip.jar, the core for Java 8 and Android, without dependencies; build/mobileclip-desktop.jar, which
# makes pictures of what javax.imageio reads; and build/mobileclip-sources.jar. It needs a JDK of version 9 to 25.
set -eu
cd "$(dirname "$0")"
out=${1:-build}
rm -rf "$out/classes" "$out/desktop" && mkdir -p "$out/classes/META-INF/proguard"
javac --release 8 -encoding UTF-8 -Xlint:all,-options -Werror -parameters -d "$out/classes" src/mobileclip/*.java
cp proguard.pro "$out/classes/META-INF/proguard/mobileclip.pro"
cp ../../LICENSE ../../NOTICE "$out/classes/META-INF/"
printf 'Implementation-Version: %s\nAutomatic-Module-Name: mobileclip\n' "$(sed -n 's/^version = "\(.*\)"/\1/p' ../../pyproject.toml)" > "$out/manifest.txt"
jar --create --file "$out/mobileclip.jar" --manifest "$out/manifest.txt" --date 2026-01-01T00:00:00Z -C "$out/classes" .
mkdir -p "$out/desktop"
javac --release 8 -encoding UTF-8 -Xlint:all,-options -Werror -parameters -cp "$out/mobileclip.jar" -d "$out/desktop" desktop/mobileclip/*.java
jar --create --file "$out/mobileclip-desktop.jar" --manifest "$out/manifest.txt" --date 2026-01-01T00:00:00Z -C "$out/desktop" .
jar --create --file "$out/mobileclip-sources.jar" --manifest "$out/manifest.txt" --date 2026-01-01T00:00:00Z -C src . -C desktop . -C onnx mobileclip -C ../.. LICENSE -C ../.. NOTICE
