#!/usr/bin/env bash
# Runs the tests of the verdicts, over fixtures, golden files and the corpus, as an arm64 processor does. Needs qemu-aarch64.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
command -v qemu-aarch64 >/dev/null || { echo "qemu-aarch64 is missing: apt-get install qemu-user" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for package in validate bench/corpus; do
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $go test -c -o "$tmp/test" "./$package"
	# Left out: allocations, which are those of another compiler of sonic, and what starts itself again under other settings.
	(cd "$package" && qemu-aarch64 "$tmp/test" -test.skip '^(TestGoodPathDoesNotAllocate|TestOtherProcessors)$' -test.v) >"$tmp/log" ||
		{ grep -v '^=== ' "$tmp/log"; exit 1; }
	echo "arm64: $package: $(grep -c -- '--- PASS' "$tmp/log") tests and parts of tests pass"
done
