#!/usr/bin/env bash
# Builds the site of docs/ into build/site; a link that leads nowhere ends it. llms.txt links the pages' sources, which
# are in the same folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .github/scripts/need.bash
need zensical
zensical build --clean --strict
cp docs/*.md build/site/
test -s build/site/index.html -a -s build/site/llms.txt
