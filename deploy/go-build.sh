#!/usr/bin/env bash
# go-build.sh NAME MODULE ARGS...: builds bin/NAME from the module in the folder
# MODULE, saying how far it is: a cold build compiles hundreds of packages and
# takes minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=$1
module=$2
shift 2
interactive=0
if [ -t 2 ]; then interactive=1; fi

echo "building bin/$name" >&2
go build -C "$module" -v -o "$PWD/bin/$name" "$@" 2>&1 | awk -v interactive="$interactive" -v name="$name" '
  function report() {
    line = "  " packages + 0 " packages compiled"
    if (modules > 0) line = line ", " modules " modules fetched"
    if (interactive) printf "\r\033[K%s", line
    else if ((packages + modules) % 100 == 0) print line
    fflush()
  }
  /^go: downloading / { modules++; report(); next }
  /[ \t]/ { if (interactive) printf "\r\033[K"; print; next }
  { packages++; report() }
  END { if (interactive) printf "\r\033[K" }
' >&2
