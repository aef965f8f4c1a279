# Everything a newcomer needs: `make demo` and `make test` set themselves up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help

.PHONY: help setup check test long thespian demo format lint types contracts docs clean

help:                 ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: $(READY)       ## make the virtual environment

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

check: lint types contracts $(READY)  ## format, lint, types, import contracts, fast tests
	$(BIN)/pytest -q -m 'not slow and not long'

test: $(READY)        ## the whole test suite
	$(BIN)/pytest -q

long: $(READY)        ## the long profiles: every crash, many kills, many power cuts
	$(BIN)/pytest -q -s -m long
	GREENROOM_KILLS=100 $(BIN)/pytest -q -s tests/durability/kill9
	GREENROOM_POWER_SEEDS=10 $(BIN)/pytest -q -s tests/durability/test_power.py

thespian: $(READY)    ## Thespian's own test suite on our system base, the multi-process tests included
	PYTHONPATH=tests/thespian_suite:src $(BIN)/pytest -q -p on_local_base --pyargs thespian.test -c /dev/null

demo: $(READY)        ## agents survey Python's own standard library
	$(BIN)/python examples/survey.py

format: $(READY)      ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports --config setup.cfg

docs: $(READY)        ## redraw the pictures that are made from code
	$(BIN)/python docs/draw_lifecycle.py

clean:                ## remove what the targets above made
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
