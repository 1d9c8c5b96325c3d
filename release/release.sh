#!/usr/bin/env bash
# Builds the program for every platform into dist/, with an SBOM each and their checksums. The same revision gives the same bytes,
# wherever it is built: module versions and the toolchain are pinned, paths and build ids left out.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
# A length of its own: git's depends on how many objects the repository has.
version=$(git describe --tags --always --dirty --abbrev=12)
# A newer Go that is installed would build other bytes.
toolchain=$(sed -n 's/^toolchain //p' go.mod)
export GOTOOLCHAIN=${toolchain:-go$(sed -n 's/^go //p' go.mod)}
export CGO_ENABLED=0 GOOS=linux GOFLAGS= GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT= GOFIPS140=off

rm -rf dist
mkdir dist
GOOS= $go build -C release -o "$PWD/dist/.inventory" ./inventory
for arch in amd64 arm64; do
	name=caliper-edge_${version}_linux_$arch
	GOARCH=$arch $go build -trimpath -buildvcs=true -ldflags "-s -w -buildid= -X main.release=$version" -o "dist/$name" .
	dist/.inventory -sbom "dist/$name.cdx.json" "dist/$name" >/dev/null
done
rm dist/.inventory
cd dist
sha256sum caliper-edge_* | tee SHA256SUMS
