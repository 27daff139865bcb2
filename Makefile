# Every way to work with Holdfast. `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PORT ?= 8080
HOST ?= 127.0.0.1
# The Python that makes the environment; any 3.11 or newer.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --require-hashes
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2

.PHONY: help run up down seed check fmt lint types imports test test-cover test-rules fuzz torture load-test bench bench-history openapi migrate requirements clean

help: ## List the targets
	@echo "Holdfast: make <target>. The two to begin with: make run, make test"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment; what it was made from is in the name of the stamp, so a pull with new pins renews it.
$(VENV)/pip: scripts/environment.sh
	@sh scripts/environment.sh "$(PYTHON)" $(VENV)
	@touch $@

$(VENV)/run: requirements/run.txt requirements/build.txt pyproject.toml | $(VENV)/pip
	@echo "Installing what Holdfast needs (once; about 40 MB)"
	@$(PIP) --progress-bar on --quiet --quiet -r requirements/run.txt -r requirements/build.txt 2>&1 || sh scripts/environment.sh failed
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: requirements/dev.txt | $(VENV)/run
	@echo "Installing what the tests need (once)"
	@$(PIP) --progress-bar on --quiet --quiet -r requirements/dev.txt 2>&1 || sh scripts/environment.sh failed
	@touch $@

run: $(VENV)/run ## Start the service on port 8080 (PORT=9000 for another), with a database of its own and demo data
	@exec $(BIN)/holdfast serve --migrate --demo --host $(HOST) --port $(PORT)
