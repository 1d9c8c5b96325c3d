#!/usr/bin/env bash
# Builds the program for every platform into dist/, with an SBOM each and their checksums. The same revision gives the same bytes,
# wherever it is built: module versions and the toolchain are pinned, paths and build ids left out.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
version=$(git describe --tags --always --dirty)
export CGO_ENABLED=0 GOOS=linux GOFLAGS= GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT=

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
