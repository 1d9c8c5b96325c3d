#!/usr/bin/env bash
# Looks for known vulnerabilities in what the program calls, for licences that are not allowed, and for modules that are not what
# go.sum says.
#
#   release/audit.sh             with the online vulnerability database
#   VULNDB=X release/audit.sh    with a copy of it: a folder with ID/ and index/, or a .tar.gz of one
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

$go mod verify
$go build -trimpath -o "$tmp/caliper-edge" .
echo "licences of what is linked:"
$go build -C release -o "$tmp/inventory" ./inventory
"$tmp/inventory" "$tmp/caliper-edge"

if [ -n "${VULNDB:-}" ]; then
	folder=$VULNDB
	if [ -f "$VULNDB" ]; then
		folder=$tmp/vulndb
		mkdir "$folder"
		tar -xzf "$VULNDB" -C "$folder"
	fi
	folder=$(cd "$folder" && pwd)
	[ -f "$folder/index/modules.json" ] || { echo "VULNDB: $VULNDB has no index/modules.json" >&2; exit 1; }
	newest=$(find "$folder/ID" -name '*.json' -exec basename {} .json \; | sort -V | tail -n 1)
	# A copy may have lost its dates; then what stands beside it may tell.
	date=$(grep -hoE '"published": *"[0-9-]{10}' "$folder/ID/$newest.json" | grep -oE '[0-9-]{10}$' || true)
	[ "${date#0001}" = "$date" ] || date=$(grep -hoE 'newest entry [0-9-]{10}' "$(dirname "$VULNDB")/README.md" 2>/dev/null | head -n 1 || true)
	echo "vulnerability database: $VULNDB, up to $newest, ${date:-of an unknown date}"
	db=(-db "file://$folder")
else
	echo "vulnerability database: https://vuln.go.dev, today"
	db=()
fi
$go build -C release -o "$tmp/govulncheck" golang.org/x/vuln/cmd/govulncheck
"$tmp/govulncheck" "${db[@]}" ./...
