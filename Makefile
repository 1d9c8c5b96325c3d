# make alone lists the targets.
GO  ?= go
BIN := bin/caliper-edge

# Native fuzz targets, as package:target: all that there are, and how long each runs in make fuzz.
FUZZ      = $(shell grep -ro --include=*_test.go '^func Fuzz[A-Za-z0-9]*' . | sed 's|^\./||; s|/[^/]*:func |:|' | sort)
FUZZTIME ?= 60s
# Those that make check runs, and for how long: inputs, so that a slow machine makes as many.
SHORTFUZZ := validate:FuzzScan validate:FuzzParse edge/tokenmap:FuzzParse pipeline:FuzzRecord edge:FuzzExchange
SHORTTIME := 1000x

# What make bench and make bench-compare measure: rows as go test -bench names them, passes, time of a row in each pass.
export BENCH     ?= .
export COUNT     ?= 6
export BENCHTIME ?= 200ms

.DEFAULT_GOAL := help
.PHONY: help build run watch test check faults format fuzz fuzz-nightly audit release reproduce arm64 bench bench-compare ceiling growth slow-sync loadtest k6 clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/caliper-edge
	$(GO) build -trimpath -o $(BIN) .

run: build ## build and start an endpoint; the first use creates what it needs
	@$(BIN) serve --init

watch: build ## print the records of the topic standard as they arrive
	@$(BIN) tail standard --since now

test: ## run all tests
	$(GO) test -count=1 -timeout 20m ./...

check: ## format, vet, staticcheck, import rules, all tests under the race detector, those of release/, fuzzing for a moment
	@test -z "$$(gofmt -l .)" || { echo "not formatted; run make format:"; gofmt -l .; exit 1; }
	$(GO) mod verify
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 ./internal/importrules
	$(GO) test -count=1 -timeout 40m -race ./...
	$(GO) vet -C release ./...
	$(GO) test -C release -count=1 ./...
	@$(MAKE) --no-print-directory fuzz FUZZ="$(SHORTFUZZ)" FUZZTIME=$(SHORTTIME)

faults: ## break everything under load and prove that nothing acknowledged is lost, about 25 minutes; some parts need root, strace
	CALIPERTEST_FAULTS=all $(GO) test -count=1 -timeout 90m -v -run '^TestFault|^TestTermUnderLoad' ./e2e

format: ## format the Go files
	gofmt -w .

fuzz: ## run every fuzz target for FUZZTIME (60s)
	@set -- $(FUZZ); test $$# -gt 0 || { echo "no fuzz targets were found"; exit 1; }; \
	for t; do \
		grep -qs "^func $${t##*:}(" $${t%%:*}/*_test.go || { echo "there is no fuzz target $$t"; exit 1; }; \
		$(GO) test ./$${t%%:*} -run '^$$' -fuzz "^$${t##*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x || exit 1; \
	done

fuzz-nightly: ## run every fuzz target for an hour
	@$(MAKE) --no-print-directory fuzz FUZZTIME=1h

audit: ## vulnerabilities (online, or VULNDB=FOLDER or .tar.gz), licences, module sums
	@GO=$(GO) release/audit.sh

release: ## build dist/: linux amd64 and arm64, SBOMs, checksums
	@GO=$(GO) release/release.sh

reproduce: ## make the release of HEAD twice and compare every byte
	@GO=$(GO) release/reproduce.sh

arm64: ## the verdicts on arm64, by qemu-user
	@GO=$(GO) release/arm64.sh

bench: ## run the benchmarks, about 7 minutes; BENCH=Parse takes some of them
	@GO=$(GO) bench/run.sh

bench-compare: ## the benchmarks of BENCH on revision BASE and on this tree in turns, and a table of both
	@test -n "$(BASE)" || { echo "say which revision: make bench-compare BASE=HEAD"; exit 1; }
	@GO=$(GO) bench/run.sh $(BASE)

ceiling: ## measure against a bare fasthttp, plain and with rules, about forty minutes; BASE=REVISION stands beside it; CEILING='-rounds 1 -duration 1s' is a look
	@GO=$(GO) $(GO) run ./bench/ceiling $(if $(BASE),-base $(BASE)) $(CEILING)

growth: ## how cost grows with envelopes, connections, topics and encryption, about half an hour
	@GO=$(GO) $(GO) run ./bench/ceiling -growth $(CEILING)

slow-sync: ## what a disk with slower syncs would cost; needs strace
	@GO=$(GO) $(GO) run ./bench/ceiling -sync-delays 1ms,3ms $(CEILING)

loadtest: ## throughput, latency, memory and the ledger of an endpoint of its own; LOAD='-rate 2000 -duration 5m' are flags of loadtest
	@GO=$(GO) loadtest/run.sh $(LOAD)

k6: ## run SCRIPT of k6/ (smoke, steady, spike, soak, reject) against the endpoint at URL, or against one of its own
	@GO=$(GO) k6/run.sh $(SCRIPT)

clean: ## remove what was built; data/ stays
	rm -rf bin dist bench/out k6/out
