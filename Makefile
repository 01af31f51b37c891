# Everything that is built lands in ./bin.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build run demo test check format vet staticcheck race generate generated fuzz-short bench

VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS   := -X github.com/prometheus/common/version.Version=$(VERSION)
# Test builds overwrite buffers that went back to their pool, so that a stale
# reference shows.
TEST_TAGS := poison
# What runs in this process; the packages of integration/ start others.
UNIT      := $$(go list ./... | grep -v /integration)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ARGS      ?=
FUZZTIME  ?= 10s

help: ## List the targets.
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/weir.
	@deploy/go-build.sh weir . -ldflags '$(LDFLAGS)' ./cmd/weir

run: build ## Build weir and run it with its defaults, data in ./data; ARGS='-flag=value' adds flags.
	@exec bin/weir $(ARGS)

demo: build ## Build weir and a real Prometheus, let one write to the other, query what arrived.
	@deploy/go-build.sh prometheus tools/prometheus github.com/prometheus/prometheus/cmd/prometheus
	@deploy/go-build.sh shop . ./deploy/demo/shop
	@deploy/demo/demo.sh

test: ## Run every test, those of real processes in integration/ included.
	go test -tags $(TEST_TAGS) -timeout 20m ./...

check: format vet staticcheck race generated ## Run formatting, static checks, the race detector, and look for stale generated files.

format: ## Fail when a file is not gofmt'ed.
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted with gofmt:"; echo "$$unformatted"; exit 1; fi

vet: ## Run go vet, with and without the tag that poisons released buffers.
	go vet ./...
	go vet -tags $(TEST_TAGS) ./...

staticcheck: ## Run staticcheck.
	go run $(STATICCHECK) -tags $(TEST_TAGS) ./...

race: ## Run the unit tests under the race detector, the longest of them in part.
	go test -race -short -tags $(TEST_TAGS) -timeout 20m $(UNIT)

generate: ## Write generated files and golden files anew; read the diff.
	go generate ./...
	go test ./cmd/weir -run Golden -rewrite

generated: ## Fail when a generated file is out of date.
	@before=$$(git ls-files -co --exclude-standard | xargs sha256sum | sha256sum); \
	$(MAKE) --no-print-directory generate; \
	after=$$(git ls-files -co --exclude-standard | xargs sha256sum | sha256sum); \
	if [ "$$before" != "$$after" ]; then echo "generated files were out of date: commit what make generate wrote"; exit 1; fi

fuzz-short: ## Fuzz each target for FUZZTIME (10s).
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$$file"); do \
			echo "fuzz $$target in $$(dirname "$$file") for $(FUZZTIME)"; \
			go test -tags $(TEST_TAGS) -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
		done; \
	done

bench: build ## Compare weir with its peers on this machine: CPU, memory and latency, as ratios.
	go run ./integration/cmd/bench $(ARGS)
