# What one does with this repository. Everything goes through cargo; CARGO_TARGET_DIR is honoured.

CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/release

# Where the real servers' data, logs and addresses are.
SERVICES := $(or $(HONGBAO_SERVICES_DIR),$(CURDIR)/target/services)

.PHONY: demo demo-cluster test play-test bench lint fuzz-api services-up services-down

# A whole campaign with a kill in the middle, settled to the fen. `make demo REPORT=FILE` also writes the settlement as JSON.
demo:
	$(CARGO) build --release --locked -p hongbao -p vendor-sim -p loadgen
	$(BIN)/hongbao demo $(if $(REPORT),--report '$(REPORT)')

# The same campaign on roles apart and replicated servers, some of each killed while it runs. REPORT=FILE as for `demo`.
demo-cluster:
	$(CARGO) build --release --locked -p hongbao -p vendor-sim -p loadgen
	deploy/local/services wipe --replicated
	deploy/local/services up --replicated
	$(BIN)/hongbao demo-cluster --servers "$(SERVICES)-replicated/env" $(if $(REPORT),--report '$(REPORT)'); \
		status=$$?; deploy/local/services down --replicated; exit $$status

# PostgreSQL, Redis, memcached and Kafka on loopback; see deploy/local/services. Cheap when they run already.
services-up:
	deploy/local/services up

services-down:
	deploy/local/services down

# All tests, against the real servers too. `make test ARGS="-p queue"` for one crate.
test: services-up
	set -a && . "$(SERVICES)/env" && set +a && HONGBAO_TEST_SERVERS=1 \
	$(CARGO) test --locked --no-fail-fast $(or $(ARGS),--workspace --features hongbao/faults)

# The page /play in a real browser: two windows talk, one wins. Needs node with npm, Chromium, and the package registry once; not a
# part of `test`, which needs none of them. `make play-test PLAY_REQUIRED=1` fails where something is missing instead of skipping.
play-test:
	$(CARGO) build --locked -p hongbao
	PLAY_REQUIRED=$(PLAY_REQUIRED) tools/play-test.sh $(or $(CARGO_TARGET_DIR),target)/debug/hongbao

# Performance figures, each with its peer. `make bench FAMILY="core. frames.10k"` for some, ARGS="--quick" for a trial.
bench:
	$(CARGO) build --release --locked -p hongbao -p vendor-sim -p loadgen -p bench
	$(BIN)/bench $(ARGS) $(FAMILY)

# The admin API of a platform of its own, asked whatever its document allows. `make fuzz-api SECONDS=60 EXAMPLES=5`.
fuzz-api:
	$(CARGO) build --locked -p hongbao
	FUZZ_SECONDS=$(or $(SECONDS),300) FUZZ_EXAMPLES=$(or $(EXAMPLES),20) \
		tools/fuzz-platform.sh $(or $(CARGO_TARGET_DIR),target)/debug/hongbao

# Format, lints, and the checks that keep ARCHITECTURE.md true.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) xtask layers sizes docs
