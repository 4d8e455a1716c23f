# Needs Python 3.11 or newer, make and a package index; everything else goes into .venv, made once.
#   make demo    synthetic radiographs -> three trained members -> ensemble -> report   (2 to 4 minutes)
#   make demo-pacs   Orthanc, the node beside it, synthetic studies, their results (needs Orthanc and npm)
#   make test    ruff, format, pyright and all tests
#   make lint    the first three of these
#   make env     only the environment
#   make page    the page of the node, built with Vite (needs Node 18 or newer and npm, 1 minute)
#   make clean   remove the environment and what the demo made

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := env

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PAGE := src/freezeframe/pacs/review/page/index.html
PAGE_TOOLS := web/node_modules/.installed
# The node's tests wait for servers and killed processes much of their time, so two at once pay also on two cores.
TEST_PROCESSES ?= 2
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: env page demo demo-pacs test lint format constraints clean

env: $(INSTALLED)

# A python may be on the PATH and yet not start (a version manager's shim), so each is asked, not only found.
$(INSTALLED): pyproject.toml constraints.txt
	@python=""; \
	for candidate in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c '$(NEW_ENOUGH)' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Found no Python 3.11 or newer: $$(python3 --version 2>&1 || true)." >&2; \
		echo "What to do: install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version); this takes a minute or some, once."; \
	if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$$python" $(VENV); \
		uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[train,node,openvino,cluster,dev]'; \
	else \
		"$$python" -m venv $(VENV) || { \
			echo "What to do: install Python's venv module (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }; \
		$(BIN)/python -m pip install --disable-pip-version-check \
			--constraint constraints.txt --editable '.[train,node,openvino,cluster,dev]'; \
	fi
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/freezeframe demo --out demo

demo-pacs: $(INSTALLED) $(PAGE)
	@$(BIN)/freezeframe demo-pacs --out demo-pacs

page: $(PAGE)

$(PAGE_TOOLS): web/package.json web/package-lock.json web/.npmrc
	@command -v npm >/dev/null 2>&1 || { \
		echo "Found no npm, which builds the page of the node." >&2; \
		echo "What to do: install Node.js 18 or newer with npm (Debian and Ubuntu: apt install nodejs npm)." >&2; exit 1; }
	@cd web && npm ci --loglevel=error
	@touch $@

$(PAGE): $(PAGE_TOOLS) web/index.html web/vite.config.ts web/tsconfig.json $(shell find web/src -type f)
	@cd web && npm run --silent check && npm run --silent build -- --logLevel error

test: lint $(PAGE)
	@$(BIN)/pytest --ignore=tests/pacs --durations=15
	@$(BIN)/pytest tests/pacs --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations=15

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

format: $(INSTALLED)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Pins of what is installed now; written beside and renamed, so that a failure leaves the old file.
constraints: $(INSTALLED)
	@$(BIN)/python .ci/pin.py > constraints.txt.new
	@mv constraints.txt.new constraints.txt && touch $(INSTALLED)

clean:
	@rm -rf $(VENV) web/node_modules src/freezeframe/pacs/review/page demo demo-pacs .pytest_cache .ruff_cache .hypothesis
