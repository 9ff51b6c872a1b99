# Everything starts here. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
INSTALLED := build/installed

# Whatever the build hook generates the stubs from: a change installs anew.
INSTALL_INPUTS := pyproject.toml hatch_build.py $(shell find protos -name '*.proto')

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(INSTALLED) ## Create .venv with everything that the other targets need.

$(INSTALLED): $(INSTALL_INPUTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@mkdir -p $(@D) && touch $@
