# Everything a newcomer needs: `make demo` and `make test` set themselves up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help

.PHONY: help setup check test long thespian peers demo bench bench-peers format lint types contracts docs pictures clean

help:                 ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: $(READY)       ## make the virtual environment

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(READY): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

check: lint types contracts $(READY)  ## format, lint, types, import contracts, fast tests
	$(BIN)/pytest -q -m 'not slow and not long'

test: $(READY)        ## the whole test suite, on two cores (three processes: some tests wait)
	$(BIN)/pytest -q -n 3 --maxschedchunk 1

long: $(READY)        ## the long profiles; GREENROOM_SCHEDULES=100000 make long: so many simulations
	$(BIN)/pytest -q -s -m long
	GREENROOM_KILLS=100 $(BIN)/pytest -q -s tests/durability/kill9
	GREENROOM_POWER_SEEDS=10 $(BIN)/pytest -q -s tests/durability/test_power.py

thespian: $(READY)    ## Thespian's own test suite on our system base, the multi-process tests included
	PYTHONPATH=tests/thespian_suite:src $(BIN)/pytest -q -p on_local_base --pyargs thespian.test -c /dev/null --noconftest

peers: $(READY)       ## fetch the programs of others that process agents are tested with (250 MB)
	mkdir -p $(VENV)/peers
	$(BIN)/pip download --quiet --no-deps --no-binary :all: --dest $(VENV)/peers \
	  "agent-client-protocol==$$($(BIN)/python -c 'from importlib.metadata import version as v; print(v("agent-client-protocol"))')"
	cd $(VENV)/peers && tar xzf agent_client_protocol-*.tar.gz
	! command -v npm || npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/peers @zed-industries/codex-acp

demo: $(INSTALLED)    ## agents survey Python's own standard library
	$(BIN)/python examples/survey.py

bench: $(READY)       ## all benchmarks, and the results in benchmarks/README.md
	$(BIN)/python benchmarks/run.py

bench-peers: $(READY) ## other systems at the same work, each in an environment of its own (1 GB, a quarter of an hour)
	cd benchmarks && ../$(BIN)/python -m peers.run

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

pictures: $(READY)    ## take the pictures of the dashboard anew (needs chromium; two minutes)
	$(BIN)/python docs/photograph_dashboard.py
	$(BIN)/python docs/tell_http.py

clean:                ## remove what the targets above made
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
