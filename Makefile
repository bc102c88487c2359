# What one does with this repository. Everything goes through cargo; CARGO_TARGET_DIR is honoured.

CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/release

# Where the real servers' data, logs and addresses are.
SERVICES := $(or $(HONGBAO_SERVICES_DIR),$(CURDIR)/target/services)

.PHONY: demo test bench lint services-up services-down

# A whole campaign with a kill in the middle, settled to the fen. `make demo REPORT=FILE` also writes the settlement as JSON.
demo:
	$(CARGO) build --release --locked -p hongbao -p vendor-sim -p loadgen
	$(BIN)/hongbao demo $(if $(REPORT),--report '$(REPORT)')

# PostgreSQL, Redis, memcached and Kafka on loopback; see deploy/local/services. Cheap when they run already.
services-up:
	deploy/local/services up

services-down:
	deploy/local/services down

# All tests, against the real servers too. `make test ARGS="-p queue"` for one crate.
test: services-up
	set -a && . "$(SERVICES)/env" && set +a && HONGBAO_TEST_SERVERS=1 \
	$(CARGO) test --locked $(or $(ARGS),--workspace --features hongbao/faults)

# Performance figures, each with its peer. `make bench FAMILY="core. frames.10k"` for some, ARGS="--quick" for a trial.
bench:
	$(CARGO) build --release --locked -p hongbao -p vendor-sim -p bench
	$(BIN)/bench $(ARGS) $(FAMILY)

# Format, lints, and the checks that keep ARCHITECTURE.md true.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) xtask layers sizes
