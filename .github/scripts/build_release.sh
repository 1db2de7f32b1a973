#!/usr/bin/env bash
# Builds what a release publishes, into an empty folder: a wheel, made from the source archive.
#   build_release.sh FOLDER [TAG]      TAG such as v0.4.0: exit code 1 where the tree is not that release
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need python
folder=$1 tag=${2-}
refuse() {
	echo "$1" >&2
	exit 1
}
version=$(python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
if [[ -n $tag ]]; then
	[[ $tag == "v$version" ]] || refuse "the tag is $tag, and pyproject.toml says $version: tag v$version, or set the version"
	! compgen -G "changelog.d/*.md" >/dev/null || refuse "changelog.d/ holds fragments: run \`towncrier build\`"
fi
[[ -z $(ls -A "$folder" 2>/dev/null) ]] || refuse "$folder is not empty: what lies there would be published too"

# Times in the archives are those of the commit: the same commit gives the same bytes.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
# A workflow has installed the backend by its hash; elsewhere it is fetched.
isolation=()
! python -c 'import hatchling' 2>/dev/null || isolation=(--no-isolation)
python -m build "${isolation[@]}" --outdir "$folder"
python .github/scripts/check_wheel.py "$folder"/*.whl
