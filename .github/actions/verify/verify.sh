#!/usr/bin/env bash
# The step of action.yml: `mobileclip-deploy verify`, or `audit` of a file, on what the environment names. Ends with its
# exit code, after a summary of the run.
set -euo pipefail
shopt -s nullglob # a pattern that fits nothing is nothing

say() {
	printf '%s\n' "$1" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
}

finish() {
	printf 'exit-code=%s\n' "$1" >>"${GITHUB_OUTPUT:-/dev/null}"
	exit "$1"
}

if [[ -n ${FILE-} ]]; then
	files=("$FILE")
	[[ -z ${TEXT-} ]] || files+=("$TEXT")
	options=()
	[[ -z ${CHECKPOINT-} ]] || options=(--checkpoint "$CHECKPOINT")
	code=0
	report=$(mobileclip-deploy audit "${options[@]}" -- "${files[@]}") || code=$?
	printf '%s\n' "$report"
	say "    ${report%%$'\n'*}" # as code: a stranger chose the file's name
	finish "$code"
fi

IFS=$'\n'
# shellcheck disable=SC2206 # patterns become paths here; nothing else of a line is read
bundles=(${BUNDLES-})
unset IFS
if ((${#bundles[@]} == 0)); then
	echo "no bundle is there: name their folders in \`bundles\`, one a line" >&2
	say "**No bundle is there.** The input \`bundles\` names their folders, one a line."
	finish 2
fi

options=(--checks "${CHECKS:-full}")
for name in checkpoint images baseline junit; do
	variable=${name^^}
	[[ -z ${!variable-} ]] || options+=("--$name" "${!variable}")
done

code=0
mobileclip-deploy verify "${options[@]}" -- "${bundles[@]}" || code=$?
if ((code == 2)); then
	say "**Verification could not be run** (exit code 2): a bundle is missing or damaged, or an input is wrong. The log says which."
fi
if ((code == 70)); then
	say "**Verification crashed** (exit code 70): a mistake of the toolkit, and no verdict of the bundles. The log names the report."
fi
finish "$code"
