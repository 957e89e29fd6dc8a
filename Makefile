# make test   everything, with the race detector; installs what it needs on Debian as root
# make lint   golangci-lint, pinned in tools.mod
# make check  what a change must pass
# make build  bin/obolus
# make bench  what a request costs, beside the least it could cost and beside others; docs/performance.md
# make torture  everything breaks while agents work, and every answer is checked; docs/torture.md
# make cover  full coverage of the packages that decide
# make fuzz   each fuzz target for FUZZTIME

GO       ?= go
FUZZTIME ?= 20s
PARALLEL ?= 2
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: all build test vet lint fmt tidy cover bench torture fuzz check prepare clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/obolus ./cmd/obolus

prepare:
	@.ci/prepare

vet:
	$(GO) vet ./...

test: prepare vet
	$(GO) test -race -count=1 -timeout 14m -p $(PARALLEL) ./...

lint:
	$(GO) tool -modfile=tools.mod golangci-lint run ./...

fmt:
	$(GO) tool -modfile=tools.mod golangci-lint fmt ./...

tidy:
	$(GO) mod tidy -diff

# The packages that decide are covered whole.
cover:
	@mkdir -p coverage
	@for pkg in policy token; do \
		$(GO) test -timeout 10m -coverprofile=coverage/$$pkg.out -coverpkg=./$$pkg ./$$pkg/... >coverage/$$pkg.log \
			|| { cat coverage/$$pkg.log; exit 1; }; \
		$(GO) tool cover -func=coverage/$$pkg.out | awk -v pkg=$$pkg \
			'/^total:/ { print pkg, $$NF; if ($$NF != "100.0%") exit 1; next } $$NF != "100.0%" { print "  " $$1, $$2, $$NF }' \
			|| { echo "package $$pkg is not covered whole"; exit 1; }; \
	done

# Prints the tables; bin/bench.json can be compared with another run: go run ./bench -compare OLD.json NEW.json
bench:
	$(GO) run ./bench $(BENCHFLAGS)

# TORTUREFLAGS='-for 60s' for a minute; bin/torture has the tables, the picture and what was broken.
torture: prepare
	$(GO) run ./cmd/obolus/torture $(TORTUREFLAGS)

fuzz:
	@for file in $$(grep -rl --include='*_test.go' '^func Fuzz' . | sort); do \
		dir=$$(dirname $$file); \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			echo "== $$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$dir || exit 1; \
		done; \
	done

check: lint test cover tidy

clean:
	rm -rf bin coverage
