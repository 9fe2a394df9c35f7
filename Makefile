# Targets that a person, and CI, calls. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-slow check format bench clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED) ## Make .venv and install the locked packages

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

quickstart: $(INSTALLED) ## Install, then train, attack and report on the embedded data set
	$(BIN)/harness run quickstart

test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest

test-slow: $(INSTALLED) ## Run the slow tests too
	$(BIN)/python -m pytest -m "not gpu and not ray"

check: $(INSTALLED) ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Measure the harness against plain loops and other libraries, in one run
	$(BIN)/python -m tests.bench

clean: ## Remove everything that was made, results included
	rm -rf $(VENV) build dist cpp_eval/build*
	find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +
