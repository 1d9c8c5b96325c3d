# shellcheck shell=bash
# Sourced by scripts that put load on an endpoint of their own:
#
#   start_endpoint FOLDER FLAGS...
#
# builds the program of this tree and runs it, on free ports, with an empty store and all defaults but for FLAGS, which are
# those of serve. CALIPER_ variables of the environment are dropped. Once the endpoint serves, these are set:
#
#   URL, ADMIN   where it listens, exported
#   TOKEN        one that it takes, exported
#   endpoint     its process
#   data         its data folder
#
#   attend COMMAND...
#
# runs what puts the load on, and returns its status. Where the script is told to end, by Ctrl-C or kill, it ends that first, which then
# reports what it has, and ends with its status.
#
# When the script ends, also by Ctrl-C, an EXIT trap ends the endpoint and removes its data; the script has no other EXIT trap.
# What stays is in FOLDER, an absolute path: caliper-edge, the program, and endpoint.log, which is $data.log until the end.
start_endpoint() {
	local out=$1 serving
	mkdir -p "$out"
	"${GO:-go}" build -C "$(dirname "${BASH_SOURCE[0]}")/.." -trimpath -o "$out/caliper-edge" .
	unset "${!CALIPER_@}"
	data=$(mktemp -d "$out/data.XXXXXX") # on this disk: a temporary folder may be memory, where a sync costs nothing
	trap stop_endpoint EXIT
	TOKEN=$("$out/caliper-edge" token add bench --data-dir "$data")
	set -m # a group of its own, which Ctrl-C does not reach: the load ends first
	"$out/caliper-edge" serve --data-dir "$data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --nats-listen '' "${@:2}" 2>"$data.log" &
	endpoint=$!
	set +m
	for _ in {1..300}; do
		if serving=$(grep 'msg=serving ' "$data.log"); then
			URL=${serving##* listen=} ADMIN=${serving##* admin=}
			URL=http://${URL%% *}/ ADMIN=http://${ADMIN%% *}
			export URL TOKEN ADMIN
			return
		fi
		kill -0 "$endpoint" 2>/dev/null || break
		sleep 0.1
	done
	echo "the endpoint did not start:" >&2
	cat "$data.log" >&2
	exit 1
}

attend() {
	local load status=0
	set -m # a group of its own as well, so that Ctrl-C reaches this shell alone
	"$@" &
	load=$!
	set +m
	trap 'kill -INT "$load" 2>/dev/null; wait "$load"; exit $?' INT TERM HUP
	wait "$load" || status=$?
	trap - INT TERM HUP
	return $status
}

stop_endpoint() {
	trap '' INT TERM HUP # an endpoint may drain for seconds; a second Ctrl-C would leave its data
	kill "${endpoint:-}" 2>/dev/null || true
	wait
	# Only now does the log get its name, so that of two scripts at once neither reads the other's.
	mv -f "$data.log" "${data%/*}/endpoint.log" 2>/dev/null || true
	rm -rf "$data"
}
