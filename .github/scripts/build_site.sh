#!/usr/bin/env bash
# Builds the site of docs/ into build/site; a link that leads nowhere ends it.
set -euo pipefail
cd "$(dirname "$0")/../.."
zensical build --clean --strict
test -s build/site/index.html
