#!/usr/bin/env bash
# Opens a pull request with what rented_phones.sh wrote.
#   propose_result.sh NAME
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need date git gh
gh auth setup-git
git switch --quiet --create "rented/$1-$(date -u +%Y%m%dT%H%M%SZ)"
git add benchmarks/devices docs/figures/benchmarks.md
git -c user.name="github-actions[bot]" -c user.email="41898282+github-actions[bot]@users.noreply.github.com" \
	commit --quiet --message "benchmarks: add $1 of rented phones"
git push --quiet origin HEAD
gh pr create --fill
