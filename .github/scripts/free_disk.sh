#!/usr/bin/env bash
# Removes what GitHub's image has and an emulator's disk needs the room of (20 GB). Nothing else uses these folders.
set -euo pipefail
df -h / | tail -n 1
for folder in /usr/share/dotnet /usr/share/swift /opt/ghc /usr/local/.ghcup /opt/hostedtoolcache/CodeQL; do
	[[ ! -d $folder ]] || sudo rm -rf "$folder"
done
df -h / | tail -n 1
