#!/usr/bin/env bash
# Runs a benchmark beside engines of its own, with PostgreSQL as it is set up where it has the machine to itself (docs/operations.md): a quarter of the
# memory for its buffers, in huge pages where this user may ask the kernel for them. scripts/bench-engines.sh command [argument ...]
set -euo pipefail
cd "$(dirname "$0")/.."

readonly knob=/proc/sys/vm/nr_hugepages
megabytes=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 4096))
readonly pages=$((megabytes * 11 / 20 + 32)) # of 2 MB, for the buffers and what else PostgreSQL shares among its processes

before=$(cat "$knob" 2>/dev/null || echo 0)
if ((before < pages)) && { echo "$pages" >"$knob"; } 2>/dev/null; then
	trap 'echo "$before" >"$knob"' EXIT
fi
bin/netra engines --data-dir .netra/bench --postgres-buffers "${megabytes}MB" -- "$@"
