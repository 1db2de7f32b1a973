#!/usr/bin/env bash
# Measures nano on rented phones: the results in benchmarks/devices/, and their rows in the page of figures.
#   rented_phones.sh PHONES NAME      PHONES with commas, as `mobileclip-deploy devices` lists them
# GOOGLE_CREDENTIALS is the key of a service account, which gcloud alone gets. Without it gcloud has to be signed in.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need gcloud python mobileclip-deploy
if [[ ! $2 =~ ^[a-z0-9]+(-[a-z0-9]+)*$ ]]; then
	echo "the name $2 has other letters than a-z, digits and hyphens: choose another" >&2
	exit 1
fi
if [[ -n ${GOOGLE_CREDENTIALS-} ]]; then
	gcloud auth activate-service-account --quiet --key-file=- <<<"$GOOGLE_CREDENTIALS"
	unset GOOGLE_CREDENTIALS
fi
mobileclip-deploy export --target onnx,executorch --precision fp32 -o out
mobileclip-deploy benchmark out/nano-onnx-fp32 out/nano-executorch-fp32 --device "ddp:$1" --runners dist/*.zip \
	--json "benchmarks/devices/$2.json"
python benchmarks/page.py
