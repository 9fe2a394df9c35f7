# Targets that a person, and CI, calls. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-python test-cpp test-slow test-browser cpp sanitize fuzz fuzz-python rehearsal check format columns bench reference clean

PYTHON ?= python3
SUITE ?= quickstart
# Which curves `make reference` keeps, where all of them would be too much.
CURVES ?= .*
FUZZ_SECONDS ?= 60
KILLS ?= 20
KEPT := '(./[^/]*\.csv|./provenance\.json|./confusion/.*|./curves/($(CURVES))__.*\.svg|./curves/(robust_accuracy|poison_success)__.*\.png|./poisons/.*\.json)'
VENV := .venv
HERE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
BIN := $(VENV)/bin
CPP_FILES := $(wildcard cpp_eval/*/*.cpp cpp_eval/*/*.hpp cpp_eval/src/*/*.cpp cpp_eval/src/*/*.hpp)
INSTALLED := $(VENV)/.installed
# Always said, so that a build folder forgets the one it was last configured with.
ORT = -DONNXRUNTIME_ROOT=$(if $(ONNXRUNTIME_ROOT),"$(abspath $(ONNXRUNTIME_ROOT))")

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED) ## Make .venv and install the locked packages

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

quickstart: $(INSTALLED) ## Install, then train, attack, report and cross-check on the embedded data set
	$(BIN)/harness run quickstart
	$(BIN)/harness crosscheck quickstart

test: test-cpp test-python ## Run all tests but the slow ones; those that compare C++ with Python need it built first

test-python: $(INSTALLED) ## Run the Python tests
	$(BIN)/python -m pytest -n auto --dist loadfile

test-cpp: cpp ## Run the tests of the C++ evaluator
	cd cpp_eval && ctest --preset release

test-slow: $(INSTALLED) ## Run the slow tests
	$(BIN)/python -m pytest -m slow

test-browser: $(INSTALLED) ## Look at reports in Debian's Chromium; skipped where it is not installed
	$(BIN)/python -m pytest -m browser tests/reports

cpp: $(INSTALLED) ## Install what the C++ evaluator needs, and build it
	@cpp_eval/setup.sh $(BIN)/python
	@cpp_eval/configure.sh release $(ORT)
	cd cpp_eval && cmake --build --preset release

sanitize: $(INSTALLED) ## Test the C++ evaluator under the address and undefined-behaviour sanitizers
	@cpp_eval/setup.sh $(BIN)/python
	@cpp_eval/configure.sh sanitize $(ORT)
	cd cpp_eval && cmake --build --preset sanitize && ctest --preset sanitize

fuzz: $(INSTALLED) ## Fuzz the C++ readers of images and bundles, FUZZ_SECONDS each
	@EXTRA_PACKAGES="clang libclang-rt-dev" cpp_eval/setup.sh $(BIN)/python
	PYTHON=$(abspath $(BIN)/python) cpp_eval/fuzz/run.sh $(FUZZ_SECONDS)

fuzz-python: $(INSTALLED) ## Fuzz the Python readers of files from elsewhere, FUZZ_SECONDS each
	$(BIN)/python -W ignore -m tests.fuzz --seconds $(FUZZ_SECONDS)

rehearsal: $(INSTALLED) ## Kill runs KILLS times with one job and with two, stop them, share a store, set the clock, fill the disk; nothing may be lost
	$(BIN)/python -m tests.rehearsal --kills $(KILLS) --jobs 1 2

check: $(INSTALLED) ## Format, lint, types, layers, depth of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_structure.py
	@if command -v clang-format >/dev/null; then clang-format --dry-run -Werror $(CPP_FILES); \
	else echo "check: clang-format is not installed: the format of the C++ files is left unchecked"; fi

format: $(INSTALLED) ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if command -v clang-format >/dev/null; then clang-format -i $(CPP_FILES); \
	else echo "format: clang-format is not installed: the C++ files are left as they are"; fi

columns: $(INSTALLED) ## Write docs/columns.md, what each column of each table means, from the code
	$(BIN)/python -m tests.columns > docs/columns.md

bench: $(INSTALLED) ## Measure the harness against plain loops and other libraries, in one run
	$(BIN)/python -m tests.bench

reference: ## Replace results/reference/$(SUITE) by the small files of results/$(SUITE), 5 MB at most; no image of the data set
	test -f results/$(SUITE)/provenance.json
	rm -rf results/reference/$(SUITE)
	mkdir -p results/reference/$(SUITE)
	cd results/$(SUITE) && find . -regextype egrep -regex $(KEPT) -exec cp --parents -t ../reference/$(SUITE) {} +
	$(PYTHON) $(HERE)tests/references.py results/reference/$(SUITE)/provenance.json HARNESS_DATA HARNESS_WEIGHTS
	test $$(du -sk results/reference/$(SUITE) | cut -f1) -le 5120

clean: ## Remove everything that was made, results included
	rm -rf $(VENV) build dist cpp_eval/build
	find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +
