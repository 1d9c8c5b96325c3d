#!/usr/bin/env bash
# Runs loadtest, with the ledger, against an endpoint of its own that has its defaults and an empty store on this disk.
#
#   loadtest/run.sh -rate 2000 -duration 5m        flags of loadtest
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/endpoint.sh
out=$PWD/bench/out
"${GO:-go}" build -o "$out/loadtest" ./loadtest
start_endpoint "$out" --nats-listen 127.0.0.1:0
attend "$out/loadtest" -url "$URL" -token "$TOKEN" -pid "$endpoint" -ledger -data-dir "$data" "$@"
