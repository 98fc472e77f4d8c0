# One command runs what CI runs: `make check`. Needs git, make and Python 3.11 or newer with venv; no root.
# PYTHON=python3.12 chooses the interpreter, JOBS=1 runs the tests one after the other, ARGS='-k ledger' goes to pytest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

JOBS ?= 2
export PYTHON JOBS ARGS

.PHONY: help setup demo test check format lint types contracts tests fix reference kills bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create .venv from the lock file (once; again when the lock, the project file or the place changes)
	@scripts/setup.sh

demo: setup ## start the platform and walk through one governed action
	@.venv/bin/assent demo

test: check ## the same as check

check: setup ## everything CI runs: format, lint, types, contracts, tests
	@scripts/check.sh format lint types contracts tests

format lint types contracts tests: setup
	@scripts/check.sh $@

fix: setup ## format, and fix what the linter can fix by itself
	@.venv/bin/python -m ruff format .
	@.venv/bin/python -m ruff check --fix .

reference: setup ## write the generated reference pages and diagrams again
	@.venv/bin/python -m scripts.reference
	@.venv/bin/python scripts/diagrams.py

kills: setup ## kill a run at every place there is, for every failure of a provider (long; ARGS='-k cut' for one)
	@ASSENT_KILLS=all .venv/bin/python -m pytest -s tests/crash/test_kill_matrix.py $(ARGS)

bench: setup ## run the benchmarks (ARGS=--quick for a short run); each prints ratios against a yardstick of the same run
	@.venv/bin/python -m benchmarks.run_all $(ARGS)

lock: ## resolve the dependencies again (UPGRADE=1 takes newer versions)
	@scripts/lock.sh

clean: ## remove .venv and every cache
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
