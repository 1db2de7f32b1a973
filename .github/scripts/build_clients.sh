#!/usr/bin/env bash
# Builds the packages of clients/ for Java and JavaScript into an empty folder, and holds them to the shared vectors; on
# Linux Kotlin's jar too, and on macOS the Swift package is tested, which is released by its tag. What needs a bundle is
# tested by `make clients`. It needs a JDK from 9 on, Node from 20 on and Python.
#   build_clients.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
# GitHub's machines name their JDKs; the one on the path may be Java 8.
for home in "${JAVA_HOME_17_X64-}" "${JAVA_HOME_17_arm64-}"; do
	[[ -z $home ]] || PATH="$(cygpath -u "$home" 2>/dev/null || echo "$home")/bin:$PATH"
done
need javac node npm python3
folder=$1
mkdir -p "$folder"
if [[ -n $(ls -A "$folder") ]]; then
	echo "$folder is not empty: what lies there would be published too" >&2
	exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
packaged=$(sed -n 's/^  "version": "\(.*\)",/\1/p' clients/js/package.json)
if [[ ${packaged/-dev./.dev} != "$version" ]]; then
	echo "clients/js/package.json says $packaged, and pyproject.toml $version" >&2
	exit 1
fi

clients/java/build.sh
java=clients/java/build
separator=:
[[ ${OS-} != Windows_NT ]] || separator=";"
javac --release 8 -encoding UTF-8 -Xlint:-options -cp "$java/mobileclip.jar$separator$java/mobileclip-desktop.jar" -d "$java/tests" clients/java/test/mobileclip/*.java
java -cp "$java/mobileclip.jar$separator$java/tests" mobileclip.Checks clients/vectors
cp "$java/mobileclip.jar" "$folder/mobileclip-$version.jar"
cp "$java/mobileclip-desktop.jar" "$folder/mobileclip-desktop-$version.jar"
cp "$java/mobileclip-sources.jar" "$folder/mobileclip-$version-sources.jar"
# The same bytes on every system: one builds it.
if [[ $(uname) == Linux ]]; then
	clients/kotlin/fetch.sh build/kotlin
	clients/kotlin/build.sh build/kotlin/jar "$java/mobileclip.jar" build/kotlin
	for name in onnx kotlin; do
		cp "build/kotlin/jar/mobileclip-$name.jar" "$folder/mobileclip-$name-$version.jar"
	done
fi

python3 .github/scripts/write_maven.py "$folder" "$version"

(cd clients/js && node --test test/vectors.test.js)
npm pack --silent --pack-destination "$folder" ./clients/js

# In release: 12 megapixels take a minute in debug.
if [[ $(uname) == Darwin ]]; then
	swift test --configuration release -Xswiftc -enable-testing
fi
