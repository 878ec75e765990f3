# Everything a person types, and what CI types too. `make run` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: run test check fmt lint types arch bench fuzz clean setup

run: $(STAMP)
	$(BIN)/capio demo

test: $(DEV_STAMP)
	$(BIN)/python -m pytest $(ARGS)

check: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP)
	$(BIN)/python -m bench.run $(ARGS)

# make fuzz TARGET=rewrite SECONDS=60; TARGET=all shares the seconds among all targets
TARGET ?= all
SECONDS ?= 120
fuzz: $(DEV_STAMP)
	$(BIN)/python -m tests.fuzz $(TARGET) $(SECONDS) $(SEED)

setup: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	touch $@ $(STAMP)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
