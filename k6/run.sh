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

# start runs an endpoint and sets URL, TOKEN and ADMIN. Its store is on this disk, for a temporary folder may be memory,
# where a sync costs nothing.
start() {
	unset "${!CALIPER_@}"
	$go build -C .. -trimpath -o k6/out/caliper-edge .
	data=$(mktemp -d out/data.XXXXXX)
	TOKEN=$(out/caliper-edge token add k6 --data-dir "$data")
	out/caliper-edge serve --data-dir "$data" --request-timeout "$timeout" \
		--listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --nats-listen '' 2>out/endpoint.log &
	endpoint=$!
	local serving
	for _ in $(seq 300); do
		if serving=$(grep 'msg=serving ' out/endpoint.log); then
			URL=http://$(sed 's/.* listen=\([^ ]*\).*/\1/' <<<"$serving")/
			ADMIN=http://$(sed 's/.* admin=\([^ ]*\).*/\1/' <<<"$serving")
			export URL TOKEN ADMIN
			return
		fi
		kill -0 "$endpoint" 2>/dev/null || break
		sleep 0.1
	done
	echo "the endpoint did not start:" >&2
	cat out/endpoint.log >&2
	exit 1
}

# stop ends the endpoint of start, if there is one.
stop() {
	if [ -n "${endpoint:-}" ]; then
		kill "$endpoint" 2>/dev/null || true
		wait "$endpoint" || true
	fi
	[ -z "${data:-}" ] || rm -rf "$data"
}
trap stop EXIT

# Job control gives each background process a group of its own, so that Ctrl-C reaches this shell alone: it ends k6 first,
# which reports what it has, and then the endpoint.
set -m
[ -n "${URL:-}" ] || start
[ -t 1 ] || quiet=--quiet
SCRIPT=$script K6_WEB_DASHBOARD=true K6_WEB_DASHBOARD_PORT=-1 K6_WEB_DASHBOARD_PERIOD=${K6_WEB_DASHBOARD_PERIOD:-1s} \
	K6_WEB_DASHBOARD_EXPORT=out/$script.html out/k6 run --no-usage-report --address '' ${quiet:-} "$script.js" &
k6=$!
trap 'kill -INT $k6 2>/dev/null; wait $k6; exit' INT TERM HUP
status=0
wait $k6 || status=$?
if [ ! -s "out/$script.html" ]; then # k6 leaves it out without a word, also where the run was too short for one
	echo "k6 has not written its report k6/out/$script.html" >&2
	[ $status -ne 0 ] || status=1
fi
exit $status
