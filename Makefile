# Two commands for everybody: `make up` and `make test`. The rest is what they are made of.

CARGO_TARGET := target/$(shell rustc -vV | sed -n 's/^host: //p')/release
KAYAK        := $(CARGO_TARGET)/kayak
# More for `kayak up`: `make up UP_FLAGS="--config cluster.yaml"`.
UP_FLAGS     ?=

# How often `make bench` and `make soak` bring clusters up; more for kayak-bench in the other two.
BENCH_RUNS   ?= 5
BENCH_FLAGS  ?=
SOAK_ROUNDS  ?= 20
SOAK_FLAGS   ?=

.PHONY: up down test check unit e2e bench bench-fleets soak build bundle deps deps-check

up: build bundle ## Bring a cluster up on this machine
	$(KAYAK) up $(UP_FLAGS)

down: ## Remove it again
	$(KAYAK) down --yes

test: check unit e2e ## Every test, on a real cluster too

check: deps-check ## Formatting, lints, licences
	cargo fmt --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	cargo deny --log-level error check bans licenses sources

unit: deps ## Tests that need no cluster
	cargo test --release --workspace --locked --lib --bins --test assets --test plans --test fleets --test simulator

e2e: build bundle ## Tests on a real cluster, and one that removes it
	cargo test --release --locked -p kayak-agent --lib -- --ignored etcd::real
	cargo test --release --locked -p kayak-engine --test local_driver -- --ignored
	cargo test --release --locked -p kayak --test e2e

bench: MEASURE = compare ## Compare with kubeadm; results go into bench/results
bench-fleets: MEASURE = fleets ## The same for clusters of several nodes
bench bench-fleets: bundle
	cargo build --profile dist --locked -p kayak
	$(CARGO_TARGET)/kayak-bench $(MEASURE) --kayak $(dir $(CARGO_TARGET))dist/kayak --runs $(BENCH_RUNS) $(BENCH_FLAGS)

soak: bundle ## Up and down, and up, killed and up, over and over; then the long series on several nodes
	$(CARGO_TARGET)/kayak-bench soak --kayak $(KAYAK) --rounds $(SOAK_ROUNDS) $(SOAK_FLAGS)
	KAYAK_ROLLS=10 KAYAK_FAULT_SECONDS=60 cargo test --release --locked -p kayak --test e2e -- '[fleet]'

build: deps ## The kayak binary
	cargo build --release --locked

bundle: build ## All images that a cluster is made of
	$(KAYAK) bundle build

deps: ## What building needs, by the system's package manager
	scripts/install-deps

deps-check: deps
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny --version 0.20.2
