#!/usr/bin/env bash
# Runs loadtest, with the ledger, against an endpoint of its own that has its defaults and an empty store on this disk.
#
#   loadtest/run.sh -rate 2000 -duration 5m        flags of loadtest
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go} out=$PWD/bench/out
mkdir -p "$out"
$go build -trimpath -o "$out/caliper-edge" . && $go build -o "$out/loadtest" ./loadtest
unset "${!CALIPER_@}"
dir=$(mktemp -d "$out/loadtest.XXXXXX") # its log too
trap 'kill ${endpoint:-} 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
token=$("$out/caliper-edge" token add loadtest --data-dir "$dir/data")
set -m # a group of its own, so that Ctrl-C ends the load alone, which then reports what it has
"$out/caliper-edge" serve --data-dir "$dir/data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --nats-listen 127.0.0.1:0 2>"$dir/log" &
endpoint=$!
set +m
until serving=$(grep 'msg=serving ' "$dir/log"); do
	kill -0 "$endpoint" || { cat "$dir/log"; exit 1; }
	sleep 0.1
done
url=http://$(sed 's/.* listen=\([^ ]*\).*/\1/' <<<"$serving")/
"$out/loadtest" -url "$url" -token "$token" -pid "$endpoint" -ledger -data-dir "$dir/data" "$@"
