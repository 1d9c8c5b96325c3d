#!/usr/bin/env bash
# Makes the release of this revision twice, in folders of other names and depths, and compares every byte.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
git clone --quiet --no-hardlinks . "$tmp/a/deeper/folder"
git clone --quiet --no-hardlinks . "$tmp/b"
"$tmp/a/deeper/folder/release/release.sh"
# What the compiler has kept would hide what depends on the folder.
GOCACHE=$tmp/cache "$tmp/b/release/release.sh"
diff -r "$tmp/a/deeper/folder/dist" "$tmp/b/dist"
echo "both are the same, byte by byte"
