#!/usr/bin/env bash
# Runs the benchmarks of this folder and leaves what they print, ready for benchstat, in bench/out/.
#
#   bench/run.sh            this tree, into bench.txt
#   bench/run.sh REVISION   that revision and this tree in turns, into base.txt and here.txt, with a table of both
#
# BENCH chooses rows as go test -bench does, COUNT is the number of passes, BENCHTIME how long a row takes in each. Passes go
# over all rows before they begin anew, so that a machine which is slow for a minute slows a sample of every row and
# not all samples of one. Between the lines stands the load of the machine, for the reader; benchstat passes over it.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
out=$PWD/bench/out
mkdir -p "$out"

# build FOLDER BINARY: the benchmarks of the tree in FOLDER.
build() { "$go" -C "$1" test -c -o "$2" ./bench; }

# pass BINARY FILE: every row once, with its store on the disk of this folder: /tmp may be memory.
pass() {
	{
		echo "load average $(cut -d' ' -f1-3 /proc/loadavg 2>/dev/null || echo unknown)"
		TMPDIR=$out "$1" -test.run '^$' -test.bench "${BENCH:-.}" -test.benchtime "${BENCHTIME:-200ms}" -test.benchmem -test.timeout 60m
	} | tee -a "$2"
}

if [ $# -eq 0 ]; then
	build "$PWD" "$out/here.test"
	rm -f "$out/bench.txt"
	for _ in $(seq "${COUNT:-6}"); do pass "$out/here.test" "$out/bench.txt"; done
	echo "written to bench/out/bench.txt"
	exit
fi

revision=$1
tree=$(mktemp -d)
trap 'git worktree remove --force "$tree"' EXIT
git worktree add --quiet --detach "$tree" "$revision"
# Both trees are measured by the benchmarks of this one, with the corpus of this one, unless the revision has other
# signatures: then it is measured by its own.
rm -rf "$tree/bench"
mkdir "$tree/bench"
cp bench/*.go "$tree/bench/"
cp -R bench/corpus bench/yardstick "$tree/bench/"
build "$PWD" "$out/here.test"
if ! build "$tree" "$out/base.test"; then
	echo "these benchmarks do not fit $revision: it is measured by its own" >&2
	rm -rf "$tree/bench"
	git -C "$tree" checkout --quiet HEAD -- bench
	build "$tree" "$out/base.test"
fi
rm -f "$out/base.txt" "$out/here.txt"
for i in $(seq "${COUNT:-6}"); do
	if [ $((i % 2)) -eq 0 ]; then
		pass "$out/base.test" "$out/base.txt"
		pass "$out/here.test" "$out/here.txt"
	else
		pass "$out/here.test" "$out/here.txt"
		pass "$out/base.test" "$out/base.txt"
	fi
done
"$go" -C bench/tools tool benchstat "base=$out/base.txt" "here=$out/here.txt" | tee "$out/compare.txt"
