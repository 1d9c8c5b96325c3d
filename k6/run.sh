#!/usr/bin/env bash
# Runs a script of this folder with k6 and leaves its report in k6/out/: SCRIPT.html, a page that needs nothing else,
# SCRIPT.txt and SCRIPT.json. The exit status is k6's: 0 if all promises were kept, 99 if one was not; 1
# also where the page is missing.
#
#   k6/run.sh steady                          against an endpoint of its own, on free ports, with an empty store and all defaults
#   URL=... TOKEN=... k6/run.sh steady        against one that is running; nobody else should send to it
#
# ADMIN=http://127.0.0.1:8081 tells a running endpoint's administrative listener: its numbers are then compared as well.
# The scripts name what else can be set.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=bench/endpoint.sh
. ../bench/endpoint.sh

go=${GO:-go}
script=${1:-}
if [ ! -f "$script.js" ]; then
	echo "say which script: make k6 SCRIPT=$(echo *.js | sed 's/\.js//g; s/ /|/g')" >&2
	exit 2
fi
timeout=5s
if [ "$script" = smoke ]; then # its verdict is not to depend on how fast the disk is
	timeout=20s
fi
mkdir -p out
rm -f "out/$script".{html,txt,json}

$go build -o out/k6 go.k6.io/k6
# corpus NAME FLAGS...: envelopes in out/NAME.jsonl.
corpus() { $go run -C .. ./bench/corpus/write -out "k6/out/$1.jsonl" "${@:2}"; }
corpus engage -kind engage -items 1 -count 1000
corpus mix -kind mix -items 5 -count 500
corpus faulty -kind mix -items 3 -count 500 -faulty 0.5 -broken 0.3

[ -n "${URL:-}" ] || start_endpoint "$PWD/out" --request-timeout "$timeout"
[ -t 1 ] || quiet=--quiet
status=0
SCRIPT=$script K6_WEB_DASHBOARD=true K6_WEB_DASHBOARD_PORT=-1 K6_WEB_DASHBOARD_PERIOD=${K6_WEB_DASHBOARD_PERIOD:-1s} \
	K6_WEB_DASHBOARD_EXPORT=out/$script.html attend out/k6 run --no-usage-report --address '' ${quiet:+"$quiet"} "$script.js" || status=$?
if [ ! -s "out/$script.html" ]; then # k6 leaves it out without a word, also where the run was too short for one
	echo "k6 has not written its report k6/out/$script.html" >&2
	[ $status -ne 0 ] || status=1
fi
exit $status
