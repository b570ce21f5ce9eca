# Everything sets itself up in .venv; nothing but Python, make and a shell is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
FUZZ := .venv-fuzz
TIME ?= 60
PEERS := websockets picows aiohttp tornado websocket-client wsproto uvloop redis
HOST ?= 127.0.0.1
PORT ?= 8765

.PHONY: help chat test lint autobahn bench fuzz floods simulate soak resilience clean sanitize

help:
	@echo "make chat       serve the chat example at http://$(HOST):$(PORT)/ (HOST=, PORT=, WORKERS=2, REDIS=redis://host)"
	@echo "make test       lint, types and all tests"
	@echo "make sanitize   the native code under AddressSanitizer, with a fuzz run"
	@echo "make simulate   random programs under faults (SEEDS=10000)"
	@echo "make lint       ruff and mypy"
	@echo "make autobahn   the Autobahn conformance suite (ARGS='--cases 1.*', FULL=1)"
	@echo "make bench      rates beside other libraries (ARGS=--quick for a first look in 3 minutes)"
	@echo "make fuzz       fuzz what strangers send, following coverage (TIME=60: seconds for each of the 9 targets)"
	@echo "make floods     floods of all kinds, on our servers and others (ARGS='--only bomb')"
	@echo "make soak       thousands of connections for minutes (ARGS='--minutes 10 --model asyncio')"
	@echo "make resilience workers, Redis and a link are lost, and no message (ARGS='--backplane redis')"
	@echo "make clean      remove what these made"

NPM := $(shell command -v npm)

# A stamp for each set of packages: made anew when pyproject.toml changes.
$(VENV)/run: pyproject.toml $(wildcard websock/_native/*.[ch])
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/test: $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint,peers]'
	$(if $(NPM),$(NPM) install --silent --no-audit --no-fund --prefix $(VENV)/node ws@8)
	@touch $@

# An environment of its own: what the peers install is no part of the tests.
$(BENCH)/ready: pyproject.toml Makefile
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable . $(PEERS)
	@touch $@

# An environment of its own: atheris has wheels for few versions of Python, and the tests do without it.
$(FUZZ)/ready: pyproject.toml $(wildcard websock/_native/*.[ch])
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	@touch $@

# The client of Redis, for those who want it.
$(VENV)/redis: $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[redis]'
	@touch $@

# exec: signals reach the server itself.
chat: $(VENV)/run $(if $(REDIS),$(VENV)/redis)
	@exec $(BIN)/python -B examples/chat/server.py --host $(HOST) --port $(PORT) \
		$(if $(WORKERS),--workers $(WORKERS)) $(if $(REDIS),--redis '$(REDIS)')

# Once over the native twins, where they could be built, and what has twins once more over the Python ones: in parts, of
# which two run at a time, those that take longest first. What a part says comes at its end.
PARTS := native-rest native-programs native-adapters pure-adapters pure-rest native-core native-net
PROGRAMS := tests/benchmarks tests/cli tests/deploy tests/examples tests/test_cli.py tests/test_cli_sockets.py
HAVE_TWINS := tests/core tests/fuzz tests/metrics/test_counting.py tests/net/test_asyncio_streams.py tests/net/test_transport.py tests/testing tests/simulation
RUN_native-adapters := tests/adapters
RUN_native-core := tests/core
RUN_native-net := tests/net
RUN_native-programs := $(PROGRAMS)
RUN_native-rest := tests $(addprefix --ignore ,tests/adapters tests/core tests/net $(PROGRAMS))
RUN_pure-adapters := tests/adapters
RUN_pure-rest := $(HAVE_TWINS)
TESTS := $(addprefix test-,$(PARTS))
.PHONY: $(TESTS)

test: $(VENV)/test
	@$(MAKE) --no-print-directory --keep-going -j2 lint $(TESTS)

$(TESTS): test-%: $(VENV)/test
	@mkdir -p build
	@echo "$@: running"
	@$(if $(filter pure-%,$*),WEBSOCK_PURE=1 WEBSOCK_SEEDS=200) \
		$(BIN)/python -m pytest -q -p no:cacheprovider $(if $(filter pure-%,$*),-k "not uvloop") $(ARGS) $(RUN_$*) \
		> build/$@.txt 2>&1; status=$$?; cat build/$@.txt; echo "$@: exit status $$status"; exit $$status

# The native twins under AddressSanitizer and UndefinedBehaviorSanitizer: their tests, then a fuzz run over many examples.
SANITIZED := build/sanitized
sanitize: $(VENV)/test
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r websock tests examples pyproject.toml README.md LICENSE $(SANITIZED)
	find $(SANITIZED) -name '*.so' -delete
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=77'
	cd $(SANITIZED) && CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
		$(CURDIR)/$(BIN)/python -c 'from setuptools import setup; setup()' --quiet build_ext --inplace --force
	cd $(SANITIZED) && CI=true ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
		LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		sh -c '$(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider tests/core/test_native.py tests/core/test_codec.py \
			tests/core/test_codec_limits.py tests/fuzz/test_fuzz.py tests/core/test_streaming.py tests/core/test_inbox.py tests/adapters/test_on_message.py && \
			WEBSOCK_HYPOTHESIS=heavy $(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider tests/core/test_native.py'

# Random programs of both adapters under faults, so many of each kind: over the native twins, and over the Python ones.
SEEDS ?= 10000
simulate: $(VENV)/test
	WEBSOCK_SEEDS=$(SEEDS) $(BIN)/python -m pytest -q tests/simulation
	WEBSOCK_PURE=1 WEBSOCK_SEEDS=$(SEEDS) $(BIN)/python -m pytest -q tests/simulation

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

autobahn: $(VENV)/run
	$(BIN)/python autobahn/run.py $(if $(FULL),--full) $(ARGS)

bench: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/compare.py $(ARGS)

# What it finds is in build/fuzz/found, and the line that replays it is printed; what it learned is there for the next run.
fuzz: $(FUZZ)/ready
	$(FUZZ)/bin/python -m tests.fuzz --time $(TIME) $(ARGS)

floods: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/floods.py $(ARGS)

soak: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/soak.py $(ARGS)

resilience: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/resilience.py $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH) $(FUZZ) .autobahn .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
