#!/usr/bin/env bash
# Runs a command on new engines of its own: scripts/engines.sh command [argument ...]
# Their data and the command's temporary files are in memory where there is room, and gone afterwards: tests make and remove hundreds of
# thousands of files, which file systems on disks answer with more of the processor's time than the tests themselves need.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly memory=/dev/shm
readonly needed=6291456 # KiB

at=$PWD/.netra
if [[ -w $memory && $(df --output=avail "$memory" | tail -n 1) -ge $needed && $(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) -ge $((2 * needed)) ]]; then
	at=$memory
fi
mkdir -p "$at"
dir=$(mktemp -d "$at/netra-test-XXXXXX")
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir" # PostgreSQL runs as another user when this is root

# Containers often forbid running programs from there, which tests build among their temporary files.
mkdir "$dir/tmp"
printf '#!/bin/sh\n' >"$dir/tmp/try" && chmod +x "$dir/tmp/try"
if [[ $at = "$memory" ]] && "$dir/tmp/try" 2>/dev/null; then
	export TMPDIR=$dir/tmp
fi
bin/netra engines --fast --data-dir "$dir/engines" -- "$@"
