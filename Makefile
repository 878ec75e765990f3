# Everything a person types, and what CI types too. `make run` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
LOCK_VENV := .venv-lock
PIP := $(BIN)/python -m pip install --quiet
# Packages come from the lock files alone, with their hashes; then the project itself, editable.
INSTALL := $(PIP) --no-deps --no-build-isolation --editable .
COMPILE := $(LOCK_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-emit-index-url --custom-compile-command 'make lock'

.PHONY: run test collect check fmt lint types arch docs bench bench-check coverage fuzz mutants manifests check-deploy clean \
	setup lock wheel-compiled test-compiled test-built

run: $(STAMP)
	$(BIN)/capio demo

# Most tests of processes wait, so three workers fill two cores. A file's tests stay together: they
# share the gateway that the file starts. With ARGS, pytest runs as it is given.
WORKERS ?= 3
SHARDED := --dist loadfile --no-loadscope-reorder
# The files with a marker: importing all tests takes half a minute.
marked = $(shell grep -rl --include='test_*.py' 'mark\.$(1)\b' tests)
test: $(DEV_STAMP)
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n $(WORKERS) $(SHARDED) -m 'not alone and not heavy'
	$(BIN)/python -m pytest -n $(WORKERS) $(SHARDED) -m heavy $(call marked,heavy)
	$(BIN)/python -m pytest -m alone $(call marked,alone)
endif

# Imports all tests; what Python and pytest have compiled is kept for the runs that follow.
collect: $(DEV_STAMP)
	$(BIN)/python -m pytest --collect-only --quiet >/dev/null

check: lint types arch

lint: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV_STAMP)
	$(BIN)/mypy

arch: $(DEV_STAMP)
	$(BIN)/lint-imports

fmt: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Writes deploy/k8s from the chart in deploy/helm; needs Helm.
manifests:
	$(PYTHON) deploy/render.py

# Helm, the schemas of Kubernetes and others check what is in deploy/; missing tools are fetched.
check-deploy:
	sh deploy/check.sh $(PYTHON)

# Writes the reference pages of docs/, Prometheus' rules and the dashboard from the code.
docs: $(DEV_STAMP)
	$(BIN)/python -m docs.generate
	$(BIN)/python deploy/monitoring.py

bench: $(DEV_STAMP)
	$(BIN)/python -m bench.run $(ARGS)

# The hot path of this tree next to that of REF (HEAD~1), by hand on an idle machine: bench/README.md.
REF ?= HEAD~1
MARGIN ?= 5
bench-check: $(DEV_STAMP)
	$(BIN)/python -m bench.parts --against $(REF) --margin $(MARGIN) $(ARGS)

# The wheel whose hot path is compiled, for this Python and this platform: needs a C compiler.
wheel-compiled: $(DEV_STAMP)
	$(PIP) --require-hashes -r requirements-compile.lock
	rm -rf build/wheel
	CAPIO_COMPILE=1 $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation \
		--wheel-dir build/wheel .

# Tests on that wheel, which is unpacked beside a copy of the tests, because Python would else import
# the sources that are there: both wires, streams, clients that leave, kills, limits on bodies, and
# meters. ON="tests/unit/core" runs others; `test-built` takes the wheel as it is. Compiled coroutines
# pass exceptions on in a way that Python 3.12 deprecates.
ON ?= $(addprefix tests/process/test_,byte_fidelity.py disconnect.py stream_faults.py hedging.py \
	anthropic_sdk.py openai_sdk.py kill.py intake.py) tests/unit/protocols/streams
COMPILED := build/compiled
test-compiled: wheel-compiled
	$(MAKE) test-built

test-built:
	rm -rf $(COMPILED)
	mkdir -p $(COMPILED)
	cp -R bench deploy docs tests *.md *.toml *.py *.lock Makefile Dockerfile $(COMPILED)
	$(BIN)/python -m zipfile -e build/wheel/*.whl $(COMPILED)
	cd $(COMPILED) && export PYTHONPATH=$$PWD && $(CURDIR)/$(BIN)/python -m gateway.cli --version \
		| grep compiled && $(CURDIR)/$(BIN)/python -m pytest -n $(WORKERS) $(SHARDED) -W ignore::DeprecationWarning $(ON)

# make fuzz TARGET=rewrite SECONDS=60; TARGET=all shares the seconds among all targets
TARGET ?= all
SECONDS ?= 120
fuzz: $(DEV_STAMP)
	$(BIN)/python -m tests.fuzz $(TARGET) $(SECONDS) $(SEED)

# Branch coverage of the parts that decide, by the tests that start no gateway; not part of CI.
coverage: $(DEV_STAMP)
	$(BIN)/python -m pytest tests/unit tests/integration --cov --cov-report= $(ARGS)
	$(BIN)/coverage report --skip-covered \
		--include='gateway/core/*,gateway/protocols/*,gateway/pipeline/*' \
		--fail-under=$(COVERED)
COVERED := 97

# make mutants TARGET=gateway/core/pricing.py ARGS="--sample 40": changes that no test notices
mutants: $(DEV_STAMP)
	$(BIN)/python -m tests.mutation $(TARGET) $(ARGS)

setup: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml requirements.lock requirements-build.lock | $(BIN)/python
	$(PIP) --require-hashes -r requirements.lock -r requirements-build.lock
	$(INSTALL)
	touch $@

$(DEV_STAMP): pyproject.toml requirements-dev.lock | $(BIN)/python
	$(PIP) --require-hashes -r requirements-dev.lock
	$(INSTALL)
	touch $@ $(STAMP)

# After a change of the dependencies in pyproject.toml. Versions stay as they are where they can;
# `make lock ARGS=--upgrade` takes the newest. The files agree with each other.
lock:
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet 'uv>=0.9,<1'
	$(COMPILE) $(ARGS) pyproject.toml -o requirements.lock
	$(COMPILE) $(ARGS) pyproject.toml --extra dev --extra bench --extra browser --group build \
		-c requirements.lock -o requirements-dev.lock
	$(COMPILE) $(ARGS) --group build -c requirements-dev.lock -o requirements-build.lock
	$(COMPILE) $(ARGS) --group compile -c requirements-dev.lock -o requirements-compile.lock

clean:
	rm -rf $(VENV) $(LOCK_VENV) .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
