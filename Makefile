# Everything starts here. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
INSTALLED := build/installed
BROWSER_INSTALLED := build/installed-browser

# Any Chromium will do: make browser CHROMIUM=/path/to/chrome
CHROMIUM ?= $(shell for name in chromium chromium-browser google-chrome; do command -v $$name && break; done)

# Comes with Prometheus: make alerts PROMTOOL=/path/to/promtool
PROMTOOL ?= $(shell command -v promtool)

# Whatever the build hook generates the stubs from: a change installs anew.
INSTALL_INPUTS := pyproject.toml hatch_build.py $(shell find protos -name '*.proto')

# The contract must stay compatible with the last release, or with the last commit before the first.
BASELINE := $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || echo HEAD)

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: $(INSTALLED) ## Run everything on this machine: MongoDB, sandbox gateway, server, sidecar.
	@$(BIN)/wallet-payment up

.PHONY: test
test: lint types layers protos tests ## Check everything and run all tests.

.PHONY: demo
demo: $(INSTALLED) ## Show the main job in a minute: top-up, payment, refund, books.
	@$(BIN)/wallet-payment demo

.PHONY: bench
bench: $(INSTALLED) ## Measure the money path against its baselines; writes build/bench/latest.json.
	@$(BIN)/python tests/bench money $(BENCH_OPTIONS)

.PHONY: bench-growth
bench-growth: $(INSTALLED) ## Measure with a million stored transactions beside none; some minutes.
	@$(BIN)/python tests/bench growth $(BENCH_OPTIONS)

.PHONY: bench-soak
bench-soak: $(INSTALLED) ## Watch the server's memory under load for ten minutes.
	@$(BIN)/python tests/bench soak $(BENCH_OPTIONS)

.PHONY: bench-verify
bench-verify: $(INSTALLED) ## Measure the proof of the books at 1,000,000 transactions.
	@PYTHONPATH=tests $(BIN)/python tests/bench/bench_verify.py $(BENCH_OPTIONS)

.PHONY: setup
setup: $(INSTALLED) ## Create .venv with everything that the other targets need.

.PHONY: lint
lint: $(INSTALLED) ## Check style and formatting.
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: $(INSTALLED) ## Check types, strictly.
	$(BIN)/mypy

.PHONY: layers
layers: $(INSTALLED) ## Check that dependencies point inward.
	$(BIN)/lint-imports --no-cache

.PHONY: protos
protos: $(INSTALLED) ## Check the contract: style, comments, format, compatibility.
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@if git rev-parse --verify --quiet '$(BASELINE):protos' >/dev/null; then \
		echo "buf breaking --against $(BASELINE)"; \
		$(BIN)/buf breaking --against '.git#ref=$(shell git rev-parse $(BASELINE) 2>/dev/null)'; \
	else echo "buf breaking: there is no earlier contract to compare with"; fi

.PHONY: tests
tests: $(INSTALLED) ## Run the tests.
	$(BIN)/pytest

CHAOS_SECONDS ?= 300
CHAOS_SEED ?= 1

.PHONY: chaos
chaos: $(INSTALLED) ## Kill and stop everything under load for five minutes; prove that no money is lost.
	@PYTHONPATH=tests $(BIN)/python tests/chaos/chaos.py --seconds $(CHAOS_SECONDS) --seed $(CHAOS_SEED)

.PHONY: browser
browser: chromium $(BROWSER_INSTALLED) ## Test the checkout page in a real browser; pictures go to build/browser.
	WALLET_TEST_CHROMIUM='$(CHROMIUM)' $(BIN)/pytest tests/browser

.PHONY: chromium
chromium:
	@test -x '$(CHROMIUM)' || { echo 'make browser needs a Chromium on this machine: "apt-get install chromium" brings one on Debian, or name yours: make browser CHROMIUM=/path/to/chrome' >&2; exit 1; }

.PHONY: alerts
alerts: promtool $(INSTALLED) ## Test the alerts by Prometheus' own tool, on what real servers tell.
	WALLET_TEST_PROMTOOL='$(PROMTOOL)' $(BIN)/pytest tests/alerts

.PHONY: promtool
promtool:
	@test -x '$(PROMTOOL)' || { echo 'make alerts needs promtool, which comes with Prometheus: "apt-get install prometheus" brings it on Debian, or name yours: make alerts PROMTOOL=/path/to/promtool' >&2; exit 1; }

.PHONY: properties
properties: $(INSTALLED) ## Look for histories that break the rules of money: EXAMPLES=3000 new ones.
	WALLET_PROPERTY_EXAMPLES=$(or $(EXAMPLES),3000) $(BIN)/pytest -q --timeout=0 \
		tests/unit/test_ledger_properties.py tests/unit/test_ledger_independence.py

.PHONY: sim
sim: $(INSTALLED) ## Simulate histories full of faults: SEEDS=1-1000; PLAN='...' replays a report's.
	@cd tests && ../$(BIN)/python -m sim $(or $(SEEDS),1-1000) $(if $(PLAN),--plan '$(PLAN)') $(if $(TRACE),--trace)

.PHONY: sim-planted
sim-planted: $(INSTALLED) ## Plant bugs one by one, and tell how many seeds it takes to find each.
	@cd tests && ../$(BIN)/python -m sim $(or $(SEEDS),1-2000) --all-planted

.PHONY: format
format: $(INSTALLED) ## Format code and protos.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write

.PHONY: clean
clean: ## Remove .venv and everything that was built; the data of `make up` stays.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(INSTALLED): $(INSTALL_INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@mkdir -p $(@D) && touch $@

$(BROWSER_INSTALLED): $(INSTALLED)
	@echo "installing what drives a browser into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	@touch $@
