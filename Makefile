# Everything sets itself up in .venv; nothing but Python, make and a shell is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8765

.PHONY: help chat test lint autobahn bench clean

help:
	@echo "make chat       serve the chat example at http://$(HOST):$(PORT)/ (HOST=, PORT=)"
	@echo "make test       lint, types and all tests"
	@echo "make lint       ruff and mypy"
	@echo "make autobahn   the Autobahn conformance suite (ARGS='--cases 1.*', FULL=1)"
	@echo "make bench      rates beside other libraries"
	@echo "make clean      remove what these made"

NPM := $(shell command -v npm)

# A stamp for each set of packages: made anew when pyproject.toml changes.
$(VENV)/run: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test: $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint,peers]'
	$(if $(NPM),$(NPM) install --silent --no-audit --no-fund --prefix $(VENV)/node ws@8)
	@touch $@

$(VENV)/bench: $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check websockets==17.4 wsproto
	@touch $@

# exec: signals reach the server itself.
chat: $(VENV)/run
	@exec $(BIN)/python -B examples/chat/server.py --host $(HOST) --port $(PORT)

test: lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

autobahn: $(VENV)/run
	$(BIN)/python autobahn/run.py $(if $(FULL),--full) $(ARGS)

bench: $(VENV)/bench
	$(BIN)/python benchmarks/compare.py $(ARGS)

clean:
	rm -rf $(VENV) .autobahn .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
