#!/usr/bin/env bash
# Builds the archive of ready runners into dist/, on Debian 13 or in its container. Arguments: those of assemble.py.
set -euo pipefail
here=$(dirname "$0")
packages=(ca-certificates python3 python3-pip g++ g++-aarch64-linux-gnu cmake ninja-build nlohmann-json3-dev libonnxruntime-dev)
missing=()
for package in "${packages[@]}"; do
	dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
if ((${#missing[@]})); then
	if [[ $(id -u) != 0 ]]; then
		echo "install what is missing, then call this again: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
python3 "$here/assemble.py" "$@"
