# Everything starts here. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
INSTALLED := build/installed
BROWSER_INSTALLED := build/installed-browser
FUZZ_INSTALLED := build/installed-fuzz

# Any Chromium will do: make browser CHROMIUM=/path/to/chrome
CHROMIUM ?= $(shell for name in chromium chromium-browser google-chrome; do command -v $$name && break; done)

# Comes with Prometheus: make alerts PROMTOOL=/path/to/promtool
PROMTOOL ?= $(shell command -v promtool)

# Whatever the build hook generates the stubs from: a change installs anew.
INSTALL_INPUTS := pyproject.toml hatch_build.py $(shell find protos -name '*.proto')

# What a deployment consists of, without what only tests need, and the tools that look at it.
AUDITED := build/audited
AUDIT_BIN := build/audit-tools/bin
ALLOWED_LICENSES := MIT;BSD;Apache;PSF;Python Software Foundation;ISC;MPL-2.0;Mozilla Public License 2.0;Unlicense;0BSD

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
	@PYTHONPATH=tests $(BIN)/python tests/bench money $(BENCH_OPTIONS)

.PHONY: bench-growth
bench-growth: $(INSTALLED) ## Measure with a million stored transactions beside none; some minutes.
	@PYTHONPATH=tests $(BIN)/python tests/bench growth $(BENCH_OPTIONS)

.PHONY: bench-soak
bench-soak: $(INSTALLED) ## Watch the server's memory under load for ten minutes.
	@PYTHONPATH=tests $(BIN)/python tests/bench soak $(BENCH_OPTIONS)

.PHONY: bench-verify
bench-verify: $(INSTALLED) ## Measure the proof of the books at 1,000,000 transactions.
	@PYTHONPATH=tests $(BIN)/python tests/bench/bench_verify.py $(BENCH_OPTIONS)

.PHONY: bench-feed
bench-feed: $(INSTALLED) ## Measure payments with a reader of the event feed beside none.
	@PYTHONPATH=tests $(BIN)/python tests/bench/bench_feed.py measure $(BENCH_OPTIONS)

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

TEST_PROCESSES ?= 3

.PHONY: tests
tests: $(INSTALLED) ## Run the tests, in three processes: most of their time is waiting.
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile

CHAOS_SECONDS ?= 300
CHAOS_SEED ?= 1

.PHONY: chaos
chaos: $(INSTALLED) ## Kill and stop everything under load for five minutes; prove that no money is lost.
	@PYTHONPATH=tests $(BIN)/python tests/chaos/chaos.py --seconds $(CHAOS_SECONDS) --seed $(CHAOS_SEED)

.PHONY: flood
flood: $(INSTALLED) ## Attack the sidecar while a caller pays; tell what is left of the caller's throughput.
	@PYTHONPATH=tests $(BIN)/python tests/flood/flood.py $(FLOOD_OPTIONS)

.PHONY: browser
browser: chromium $(BROWSER_INSTALLED) ## Test the checkout page in a real browser; pictures go to build/browser.
	WALLET_TEST_CHROMIUM='$(CHROMIUM)' $(BIN)/pytest tests/browser

.PHONY: chromium
chromium:
	@test -x '$(CHROMIUM)' || { echo 'make browser needs a Chromium on this machine: "apt-get install chromium" brings one on Debian, or name yours: make browser CHROMIUM=/path/to/chrome' >&2; exit 1; }

NODE ?= $(shell command -v node)
NODE_EXAMPLE := build/node-example
NODE_FILES := $(wildcard clients/node-example/*)

.PHONY: node-example
node-example: node $(INSTALLED) $(NODE_EXAMPLE)/installed ## Run the example for Node against everything that `up` runs.
	WALLET_TEST_NODE='$(NODE)' $(BIN)/pytest tests/node

.PHONY: node
node:
	@test -x '$(NODE)' && command -v npm >/dev/null || { echo 'make node-example needs Node 18 or newer with npm: "apt-get install nodejs npm" brings them on Debian' >&2; exit 1; }

$(NODE_EXAMPLE)/installed: $(NODE_FILES)
	@mkdir -p $(@D) && cp clients/node-example/* $(@D)
	@cd $(@D) && npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

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

.PHONY: sbom
sbom: $(AUDITED) ## List what a deployment consists of: build/sbom.cdx.json (CycloneDX).
	@$(AUDIT_BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file build/sbom.cdx.json build/deployed/bin/python
	@echo "build/sbom.cdx.json: $$(grep -c '"bom-ref"' build/sbom.cdx.json) components"

.PHONY: licenses
licenses: $(AUDITED) ## List the licences of a deployment; fails at one that is not allowed here.
	@$(AUDIT_BIN)/pip-licenses --python build/deployed/bin/python --with-urls --order=license \
		--ignore-packages wallet-payment --partial-match --allow-only '$(ALLOWED_LICENSES)'

# An advisory database of your own, for example: AUDIT_OPTIONS='-s osv --osv-url https://osv.example/v1/query'
AUDIT_OPTIONS ?=
AUDIT := $(AUDIT_BIN)/pip-audit --strict --progress-spinner off

.PHONY: vulnerabilities
vulnerabilities: $(AUDITED) ## Look for known vulnerabilities in a deployment and in the locks; needs pypi.org.
	@failed=; \
	$(AUDIT) $(AUDIT_OPTIONS) --skip-editable \
		--path "$$(build/deployed/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || failed=yes; \
	for locked in deploy/requirements.txt deploy/requirements-build.txt; do \
		$(AUDIT) $(AUDIT_OPTIONS) --require-hashes --disable-pip -r $$locked || failed=yes; done; \
	test -z "$$failed" || { echo 'vulnerabilities: packages are vulnerable, as listed above, or could not be looked up: "not found on PyPI" says that the advisory database cannot be asked from here. Nothing is proven then: see docs/operation/supply-chain.md' >&2; exit 1; }

.PHONY: fuzz
fuzz: $(FUZZ_INSTALLED) ## Fuzz everything that comes from outside: SECONDS=60 for each target.
	@cd tests && ../$(BIN)/python -m fuzz --seconds $(or $(SECONDS),60) --only '$(ONLY)' $(if $(REPLAY),--replay '$(REPLAY)')

.PHONY: mutants
mutants: $(INSTALLED) ## Change the ledger in one place after another; a test has to notice each.
	@cd tests && ../$(BIN)/python -m mutation --only '$(ONLY)'

.PHONY: format
format: $(INSTALLED) ## Format code and protos.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write

LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: lock
lock: $(INSTALLED) ## Lock what the image installs to the newest versions, with their hashes.
	$(LOCK) --output-file deploy/requirements.txt pyproject.toml
	$(LOCK) --output-file deploy/requirements-build.txt deploy/requirements-build.in

.PHONY: reference
reference: $(INSTALLED) ## Write docs/reference anew from the code.
	@for page in tests/*_reference.py; do echo "$$page"; $(BIN)/python "$$page" || exit 1; done

.PHONY: clean
clean: ## Remove .venv and everything that was built; the data of `make up` stays.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(INSTALLED): $(INSTALL_INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@mkdir -p $(@D) && touch $@

$(FUZZ_INSTALLED): $(INSTALLED)
	@echo "installing the fuzzer into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@touch $@

$(BROWSER_INSTALLED): $(INSTALLED)
	@echo "installing what drives a browser into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	@touch $@

$(AUDITED): $(INSTALL_INPUTS)
	@echo "installing a deployment into build/deployed, and what looks at it into build/audit-tools"
	@$(PYTHON) -m venv --clear build/deployed
	@build/deployed/bin/python -m pip install --quiet --disable-pip-version-check .
	@build/deployed/bin/python -m pip uninstall --quiet --yes --disable-pip-version-check pip setuptools
	@$(PYTHON) -m venv --clear build/audit-tools
	@$(AUDIT_BIN)/python -m pip install --quiet --disable-pip-version-check \
		'cyclonedx-bom>=7,<8' 'pip-audit>=2.9,<3' 'pip-licenses>=5,<6'
	@touch $@
