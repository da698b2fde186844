# Two commands need nothing but what docs/en/how_to/install.md asks for: `make quickstart` and `make test`.
VENV ?= .venv
PY := $(VENV)/bin/python
JOBS ?= 2
# One thread a process: the tests run in parallel instead.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help env deepsparse-env quickstart test test-slow lint bench docs

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env:  ## create the environment from the lock (does nothing when it is there)
	@tools/create_env.sh $(VENV)

deepsparse-env:  ## create the environment of the engine DeepSparse, and say what to export
	@tools/create_env.sh --deepsparse
	@echo "export MMREUSE_DEEPSPARSE_PYTHON=$(CURDIR)/.venv-deepsparse/bin/python"

quickstart: env  ## train small networks on the embedded digits, merge, connect, reassemble, modularize and prune them (minutes)
	$(PY) tools/quickstart.py

test: env  ## run the default tests
	$(THREADS) $(PY) -m pytest -n $(JOBS)

test-slow: env  ## run all tests, the slow ones and those on real data too
	$(THREADS) $(PY) -m pytest -n $(JOBS) -m 'slow or not slow'

lint: env  ## check style and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports

bench: env  ## run the benchmarks of minutes, reference beside ours, and compare with the committed ratios
	$(THREADS) $(PY) benchmarks

docs: env  ## build the documentation into docs/_build
	$(PY) -m pip install --quiet -r requirements/docs.txt
	$(PY) -m sphinx -W -b html docs/en docs/_build/html
