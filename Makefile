# `make` alone lists what there is: the text after ## is the help.
PYTHON ?= python

.DEFAULT_GOAL := help
.PHONY: help install test test-fast test-cuda lint format types golden pictures bench ci

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install:  ## install the library and its development tools into the current environment
	$(PYTHON) -m pip install -e '.[dev]'

test:  ## run every test, on two cores
	$(PYTHON) -m pytest -n 2

test-fast:  ## run the tests that take a moment, stop at the first failure
	$(PYTHON) -m pytest -x -m 'not slow'

test-cuda:  ## run the tests that need a CUDA device, under a runtime without one
	TEST_CUDA=1 $(PYTHON) -m pytest tests/cuda/test_without_device.py

lint:  ## check formatting and lint rules
	ruff format --check .
	ruff check .

format:  ## format the code and mend what ruff can mend
	ruff format .
	ruff check --fix .

types:  ## check the types, strictly
	PYTHON=$(PYTHON) .ci/types

golden:  ## rewrite the golden files; read the diff before committing it
	$(PYTHON) -m pytest --update-golden tests/test_golden.py tests/cli/test_main.py

pictures:  ## redraw the pictures of the documentation
	$(PYTHON) docs/pictures.py

bench:  ## run every benchmark; each prints its table and writes JSON
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(PYTHON) "$$file"; done

ci:  ## what a change must pass: a fresh environment, format, lint, types, tests
	.ci/run
