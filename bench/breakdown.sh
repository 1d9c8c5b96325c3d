#!/usr/bin/env bash
# Where the processor time of one request goes, kernel included: samples of perf, sorted by what their stacks are about. The
# endpoint has its defaults and an empty store.
#
#   bench/breakdown.sh -connections 256 -kind mix -items 1        flags of loadtest
#
# Needs linux-perf and the right to use it.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/endpoint.sh
out=$PWD/bench/out
"${GO:-go}" build -o "$out/loadtest" ./loadtest
start_endpoint "$out"

# spent: clock ticks of the endpoint, 100 a second; answered: its requests.
spent() { awk '{ print $14 + $15 }' "/proc/$endpoint/stat"; }
answered() { curl -sSf "$ADMIN/metrics" | awk '/^caliper_requests_total/ { n += $2 } END { print n }'; }

"$out/loadtest" -url "$URL" -token "$TOKEN" -duration 8s -warmup 1s "$@" >"$out/load.log" 2>&1 &
load=$!
sleep 2
ticks=$(spent) requests=$(answered)
perf record -q -F 1999 -e cpu-clock -g -p "$endpoint" -o "$out/perf.data" sleep 4
ticks=$(($(spent) - ticks)) requests=$(($(answered) - requests))
wait "$load" || { cat "$out/load.log" >&2; exit 1; }

# A sample belongs to the first line of the table of which it has a function.
perf script -i "$out/perf.data" -F ip,sym 2>/dev/null | awk -v us="$(awk "BEGIN { print $ticks * 10000 / $requests }")" '
	BEGIN {
		n = split("\
garbage collector=gcBgMarkWorker|gcAssist|bgsweep|bgscavenge;\
sysmon=runtime.sysmon;\
pack the batch=ncodeSnappy|zstd.*Encode;\
write and sync of the store=[fF]sync|[pP]write;\
nats-server and nats.go, the rest=internalLoop|nats-server|nats-io;\
worker, the rest: settle, metrics=topic..run;\
rules=checkItem|Envelope..check;\
one pass over the JSON=Envelope..pass;\
the long way of JSON, and release=caliperedge/validate;\
route, window, copy into the batch=Pipeline..Route|Pipeline..Submit;\
token and header checks=Endpoint..admit|headerReceived|checkHeader;\
write of the answer, kernel=ksys_write|sys_write|FD..Write;\
read of the request, kernel=edge...conn..Read;\
edge, the rest: wait, metrics, answer=Endpoint..receive|Endpoint..handle;\
fasthttp, the rest=serveConn;\
scheduler and poller=.", rows, ";")
		for (i = 1; i <= n; i++) { split(rows[i], r, "="); name[i] = r[1]; pattern[i] = r[2] }
	}
	function count(  i) {
		if (stack == "") return
		for (i = 1; i <= n; i++) if (stack ~ pattern[i]) { samples[i]++; break }
		total++; stack = ""
	}
	/^$/ { count(); next }
	{ stack = stack " " $2 }
	END {
		count()
		printf "%.1f us of processor time per request, %d requests\n", us, '"$requests"'
		for (i = 1; i <= n; i++) printf "%6.2f us  %5.1f %%  %s\n", us * samples[i] / total, 100 * samples[i] / total, name[i]
	}'
