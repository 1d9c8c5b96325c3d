#!/usr/bin/env bash
# Writes default.pgo: where caliper-edge spends its processor time under load. The compiler reads it with every build of
# the program (profile-guided optimisation). Worth doing anew when the hot path has changed; about a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
out=$PWD/bench/out
mkdir -p "$out"
$go build -trimpath -o "$out/caliper-edge" .
$go build -o "$out/loadtest" ./loadtest

unset "${!CALIPER_@}"
data=$(mktemp -d "$out/data.XXXXXX")
trap 'kill "${endpoint:-}" 2>/dev/null; wait; rm -rf "$data"' EXIT
token=$("$out/caliper-edge" token add profile --data-dir "$data")
"$out/caliper-edge" serve --data-dir "$data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --nats-listen '' 2>"$out/endpoint.log" &
endpoint=$!
until serving=$(grep 'msg=serving ' "$out/endpoint.log"); do
	kill -0 "$endpoint" || { cat "$out/endpoint.log"; exit 1; }
	sleep 0.1
done
url=http://$(sed 's/.* listen=\([^ ]*\).*/\1/' <<<"$serving")/
admin=http://$(sed 's/.* admin=\([^ ]*\).*/\1/' <<<"$serving")

# record NAME FLAGS...: 8 s of load, the last 6 of them recorded.
record() {
	"$out/loadtest" -url "$url" -token "$token" -duration 8s -warmup 1s "${@:2}" >/dev/null &
	sleep 2
	curl -sSf -o "$out/$1.prof" "$admin/debug/pprof/profile?seconds=6"
	wait $!
}
record ones -connections 256 -kind mix -items 1
record hundreds -connections 64 -kind mix -items 100
record engage -connections 1024 -kind engage -items 1
record faulty -connections 64 -kind mix -items 3 -faulty 0.3 -gzip 0.3 -zstd 0.3
$go tool pprof -proto -output=default.pgo "$out"/{ones,hundreds,engage,faulty}.prof >/dev/null
ls -l default.pgo
