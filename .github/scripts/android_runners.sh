#!/usr/bin/env bash
# The archive of ready runners for Android phones, in dist/.
#   android_runners.sh [TAG]      TAG such as android-runners-2: exit code 1 where it is not the archive that release.json pins
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${1-}
version=$(sed -n 's/^ *"version": "\(.*\)",$/\1/p' mobileclip_deploy/benchmark/android/release.json)
if [[ -n $tag && $tag != "android-runners-$version" ]]; then
	echo "the tag is $tag, and release.json says $version: tag android-runners-$version, or set the version" >&2
	exit 1
fi
android_harness/runners/build.sh ${tag:+--check}
