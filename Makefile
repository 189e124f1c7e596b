# What people type. `make demo` needs the Rust toolchain, a C++ compiler and make; `make test` installs what it needs.

CARGO ?= cargo
QUICK := --profile quick
REACTOR := target/quick/reactor
# Most tests wait for a server half of their time: twice as many at once as there are cores.
TESTS_AT_ONCE ?= $$((2 * $$(nproc)))

.PHONY: help build demo test check bench soak release deps fmt schema

help: ## what can be typed here
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## build target/quick/reactor (quick to compile)
	$(CARGO) build $(QUICK) -p reactor

demo: build ## build, then show signed messages turned into changes, and a kill -9 in the middle
	$(REACTOR) demo $(ARGS)

deps: ## install what the tests need (idempotent)
	scripts/install-test-deps

test: deps build ## install what the tests need, then run all of them
	RUST_TEST_THREADS=$(TESTS_AT_ONCE) $(CARGO) test $(QUICK) --workspace

check: ## what CI runs before the tests: format, lints, licences, the example site
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(QUICK) --workspace --all-targets --quiet -- -D warnings
	scripts/check-licences
	$(MAKE) --no-print-directory build
	$(REACTOR) check rules.yaml
	$(REACTOR) test rules.yaml
	$(REACTOR) schema | diff -u rules.schema.json - || { echo "hint: make schema"; exit 1; }

schema: build ## write rules.schema.json anew
	$(REACTOR) schema > rules.schema.json

bench: deps ## measure what PERFORMANCE.md quotes (a release build, then about half an hour)
	scripts/install-bench-deps
	$(CARGO) build --release -p reactor
	$(CARGO) run --release -p reactor-benches -- $(ARGS)

soak: deps build ## kill -9 the daemon 2,000 times under load (CI does 200), and three nodes with 100,000 messages (CI: 360)
	REACTOR_KILLS=2000 $(CARGO) test $(QUICK) -p reactor-tests --test all -- kill --nocapture
	REACTOR_NODES_MESSAGES=100000 $(CARGO) test $(QUICK) -p reactor-tests --test all -- nodes::three --nocapture

release: ## the binary for packages: target/release/reactor
	$(CARGO) build --release -p reactor

fmt: ## format the sources
	$(CARGO) fmt --all
