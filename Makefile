# Every way to work with Holdfast; `make` alone lists them. The two to begin with: make run, make test.
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PORT ?= 8080
HOST ?= 127.0.0.1
# The Python that makes the environment: the first one that is 3.11 or newer.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install
# Options of a target's program, as in: make load-test ARGS="--rate 200"
ARGS ?=
# Test processes side by side.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest

.PHONY: help run up down seed check fmt lint types imports compose-check test test-cover fuzz torture \
  load-test bench bench-seats bench-queue bench-availability bench-streams bench-analytics bench-history verify openapi migrate doctor requirements clean

help: ## List all targets
	@echo "Holdfast: make <target>. Begin with: make run"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' Makefile

# --- the environment: made once, renewed when the pins change --------------------------------------------------------

$(VENV)/made: scripts/environment.sh
	@sh scripts/environment.sh "$(PYTHON)" $(VENV)
	@touch $@

$(VENV)/run: requirements/run.txt requirements/build.txt pyproject.toml $(VENV)/made
	@echo "Installing what Holdfast needs (once, about a minute)"
	@$(PIP) --require-hashes -r requirements/run.txt -r requirements/build.txt | sh scripts/progress.sh 65; \
	  $(BIN)/python -c 'import fastapi, asyncpg, hatchling' 2>/dev/null || sh scripts/environment.sh failed
	@$(PIP) --quiet --no-deps --no-build-isolation -e . || sh scripts/environment.sh failed
	@touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/run
	@echo "Installing what the tests need (once, about a minute)"
	@$(PIP) --require-hashes -r requirements/dev.txt | sh scripts/progress.sh 150; \
	  $(BIN)/python -c 'import pytest, ruff, locust' 2>/dev/null || sh scripts/environment.sh failed
	@touch $@

# --- the service ----------------------------------------------------------------------------------------------------

run: $(VENV)/run ## Start the service with a database of its own and demo data (PORT=9000 for another port)
	@exec $(BIN)/holdfast serve --migrate --demo --host $(HOST) --port $(PORT)

seed: $(VENV)/run ## Fill an empty database with demo rooms, people and bookings
	@$(BIN)/holdfast seed

migrate: $(VENV)/run ## Bring the database to the newest migration
	@$(BIN)/holdfast migrate

doctor: $(VENV)/run ## Check settings, database, durability, migrations and clock
	@$(BIN)/holdfast doctor

up: ## Start it in containers: docker compose up -d --build
	@docker info >/dev/null 2>&1 || { echo "holdfast: No Docker engine answers here. Start one, or use 'make run', which needs none." >&2; exit 1; }
	docker compose up -d --build
	@echo "Holdfast serves at http://127.0.0.1:8080 as soon as 'docker compose ps' says healthy. Stop it with: make down"

down: ## Stop the containers (the data stay in their volume)
	@docker info >/dev/null 2>&1 || { echo "holdfast: No Docker engine answers here, so there is nothing to stop." >&2; exit 1; }
	docker compose down

# --- the gate -------------------------------------------------------------------------------------------------------

check: lint types imports compose-check test-cover ## The gate: format, lint, types, floors, container files, all tests with coverage
	@echo "All checks passed."

fmt: $(VENV)/dev ## Format the code and mend what the linter can mend
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format .

lint: $(VENV)/dev
	@$(BIN)/ruff format --check --quiet . || { echo "holdfast: Some files are not formatted: make fmt" >&2; exit 1; }
	@$(BIN)/ruff check .

types: $(VENV)/dev
	@$(BIN)/mypy

imports: $(VENV)/dev
	@$(BIN)/lint-imports --no-logo

compose-check: $(VENV)/dev
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	@$(BIN)/yamllint --strict docker-compose.yml .github/workflows/ci.yml ops

# The crash tests want the machine for themselves, so they run after the others.
test: $(VENV)/dev ## All tests, on a private throw-away PostgreSQL
	@$(PYTEST) -q -n $(JOBS) --dist worksteal -m "not serial" $(ARGS)
	@$(PYTEST) -q -m serial $(ARGS)

test-cover: $(VENV)/dev ## All tests with coverage; the report is htmlcov/index.html
	@rm -f .coverage .coverage.*
	@$(PYTEST) -q -n $(JOBS) --dist worksteal -m "not serial" --cov --cov-report= $(ARGS)
	@$(PYTEST) -q -m serial --cov --cov-append --cov-report=html --cov-report=term:skip-covered $(ARGS)
	@echo "The coverage report is htmlcov/index.html"

fuzz: $(VENV)/dev ## Schema fuzzing at length (CASES=200 examples an operation and phase)
	@HOLDFAST_FUZZ_CASES=$(or $(CASES),200) $(PYTEST) -q -o faulthandler_timeout=3600 -n $(JOBS) tests/contracts/test_schema_fuzz.py $(ARGS)

verify: $(VENV)/dev ## holdfast verify on a service of its own: concurrent clients, all answers explained (ARGS="--seconds 30")
	@$(BIN)/python loadtest/verify.py $(ARGS)

torture: $(VENV)/dev ## kill -9 of service and PostgreSQL, hundreds of times (KILLS=200); every pair of write paths
	@HOLDFAST_TORTURE_KILLS=$(or $(KILLS),200) $(PYTEST) -q -s -o faulthandler_timeout=3600 tests/crashes tests/races/test_pairs.py $(ARGS)

# --- speed ----------------------------------------------------------------------------------------------------------

load-test: $(VENV)/dev ## Locust, headless: rooms, then the sale of an event (ARGS="--profile events", "--rate 200")
	@$(BIN)/python loadtest/run.py $(ARGS)

bench: $(VENV)/dev ## List, book and refuse beside a raw ASGI answer and pgbench: medians and ratios
	@$(BIN)/python loadtest/bench.py $(ARGS)

bench-seats: $(VENV)/dev ## 10,000 seats sold to 200 buyers at once, beside a variant that locks the event for each
	@$(BIN)/python loadtest/seats.py $(ARGS)

bench-queue: $(VENV)/dev ## The same crowds with and without the fair queue: how fast, and who wins
	@$(BIN)/python loadtest/fair_queue.py $(ARGS)

bench-availability: $(VENV)/dev ## The search for free rooms among 1,000 over 7 days
	@$(BIN)/python loadtest/availability.py $(ARGS)

bench-streams: $(VENV)/dev ## From a booking's commit to the sockets of 500 subscribers, and what they cost the bookings
	@$(BIN)/python loadtest/streams.py $(ARGS)

bench-analytics: $(VENV)/dev ## Figures over a million bookings, with the plans (loads for some minutes)
	@$(BIN)/python loadtest/analytics.py $(ARGS)

bench-history: $(VENV)/dev ## The same at 10 million bookings against 100 thousand (loads for a quarter of an hour)
	@$(BIN)/python loadtest/history.py $(ARGS)

# --- what is generated ----------------------------------------------------------------------------------------------

openapi: $(VENV)/run ## Write the OpenAPI document to docs/openapi.json
	@$(BIN)/holdfast openapi --output docs/openapi.json

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
requirements: $(VENV)/made ## Pin dependencies anew (hashes only: no download addresses)
	@$(PIP) --quiet uv
	@$(COMPILE) $(ARGS) pyproject.toml --extra embedded --extra traces --group dev -o requirements/dev.txt
	@$(COMPILE) -c requirements/dev.txt pyproject.toml --extra embedded --extra traces -o requirements/run.txt
	@$(COMPILE) -c requirements/dev.txt pyproject.toml --extra traces -o requirements/service.txt
	@printf 'hatchling==1.28.0\neditables~=0.3\n' | $(COMPILE) - -o requirements/build.txt
	@echo "Pinned. Look at the difference, then: make test"

clean: ## Remove the environment, caches and reports (the data in .data stay)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache htmlcov reports .coverage .coverage.*
