.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Set-up comes before the build, which embeds what it makes.
.NOTPARALLEL:
.PHONY: help run test test-go test-client test-browser setup build generate verify lint bench bench-quick bench-flame bench-all soak clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: setup build ## install what is missing, then serve http://127.0.0.1:8080 with demo data
	@exec bin/netra dev

# go test begins with the packages that are named first: the longest ones, so that none of them is left over at the end.
longest := ./live ./migrations ./embedded ./app ./resolvers ./cmd/netra

# The Go tests come last so that their verdict is what the screen shows; they run even when a browser test fails. What they need is compiled
# while a browser test waits for its page.
test: ## run every test: browser, client, unit, and integration on the real engines
	@scripts/setup.sh --browser
	@$(MAKE) build
	@nice go build -race ./... >/dev/null 2>&1 & \
		status=0; $(MAKE) test-browser || status=1; $(MAKE) test-client || status=1; $(MAKE) test-go || status=1; exit $$status

test-go: ## run the Go tests on engines of their own (after `make setup build`)
	scripts/engines.sh go test -race $(longest) ./...

test-client: ## run the live client's tests in Node (after `make setup build`)
	@NETRA_BIN="$(CURDIR)/bin/netra" scripts/engines.sh npm --prefix web/client test

test-browser: ## run the playground's tests in Chromium (after `make setup build`)
	NETRA_BIN="$(CURDIR)/bin/netra" npm --prefix web/playground test

setup: ## install what run needs and this machine lacks
	@scripts/setup.sh

# Version stamping fails in a clone that belongs to another user, as in many containers.
build: ## build bin/netra
	go build -buildvcs=false -o bin/netra ./cmd/netra

generate: ## regenerate committed code
	go generate ./...

verify: generate ## fail when committed code is not what generate makes
	git diff --exit-code

lint: ## check formatting, vet, staticcheck and the import directions
	@unformatted=$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l); \
		test -z "$$unformatted" || { echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go tool depguard ./...

bench: ## compare netra with its peers in 20 minutes, and write docs/performance.md
	@scripts/setup.sh --peers
	@$(MAKE) build
	scripts/bench-engines.sh go run ./bench/peers -out docs/performance.md

bench-quick: ## the same in 3 minutes, on the main questions only; writes nothing
	@scripts/setup.sh --peers
	@$(MAKE) build
	scripts/bench-engines.sh go run ./bench/peers -quick

bench-flame: build ## draw docs/flame-reference.svg: where a reference query's time goes (needs perf)
	scripts/bench-engines.sh go run ./bench/peers -flame docs/flame-reference.svg

bench-all: bench ## compare with the peers, and measure what every other benchmark promises (an hour)
	scripts/bench-engines.sh go test -run '^$$' -bench . -timeout 1h ./bench/...

soak: setup build ## break everything for NETRA_SOAK (10m) while sequences are checked, and ask 1,000 random operations
	bin/netra engines --fast --data-dir .netra/soak -- env NETRA_SOAK=$${NETRA_SOAK:-10m} NETRA_OPERATIONS=$${NETRA_OPERATIONS:-1000} go test -v -run "TestFaults|TestEveryOperation" -timeout 0 ./live ./resolvers

clean: ## remove what was built and the development data, but not what was installed
	rm -rf bin .netra/postgres .netra/clickhouse .netra/objects .netra/test .netra/netra-test-* .netra/bench .netra/soak
