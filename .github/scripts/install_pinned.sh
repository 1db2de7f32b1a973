#!/usr/bin/env bash
# Installs the toolkit from this checkout with what .github/requirements/NAME.txt pins by hash.
#   install_pinned.sh NAME [wheel]     wheel: the checkout's wheel, not the checkout itself
# Torch is in none of these files but macOS's: TORCH_INDEX is the index of its builds for processors, 200 MB, as
# pytorch.org/get-started names it (a variable of the repository's, docs/ci.md). Without it pip takes the builds for
# NVIDIA's GPUs, 2.7 GB with NVIDIA's libraries.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need python
requirements=.github/requirements/$1.txt
if ! grep -q '^torch==' "$requirements"; then
	# shellcheck disable=SC2086 # two words, or none
	python -m pip install --quiet ${TORCH_INDEX:+--no-deps --index-url $TORCH_INDEX} torch==2.13.0 torchvision==0.28.0
fi
python -m pip install --quiet --no-deps --require-hashes -r "$requirements"
if [[ ${2-} == wheel ]]; then
	python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	python -m pip install --quiet --no-deps dist/mobileclip_deploy-*.whl
else
	python -m pip install --quiet --no-deps --no-build-isolation --editable .
fi
