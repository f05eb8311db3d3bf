# Everything headrace needs is installed into .venv by the first target that is run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup demo check test bench wheel simulate faults fuzz clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       the main job on a local Kafka: a day of payments, then the audit   (ARGS=\"--payments 5000\")"
	@echo "make check      style, types, the rules of the house"
	@echo "make test       all tests, with the real Kafka"
	@echo "make simulate   10,000 seeded stories on a simulated Kafka                         (ARGS=\"--seeds 1000\")"
	@echo "make faults     faults against real workers on a real Kafka                        (ARGS=\"--tier nightly\")"
	@echo "make fuzz       whatever strangers may send                                        (ARGS=\"--minutes 5\")"
	@echo "make wheel      the wheel, installed and tested far from the checkout"
	@echo "make bench      all benchmarks, or one of them                  (BENCH=full PART=latency ARGS=\"--json\")"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("headrace needs Python 3.11 or later; this is " + sys.version.split()[0] + " (make PYTHON=python3.12 ...)" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: install your system's python3-venv package"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[broker,dev,bench]"
	@touch $@

demo: setup
	@$(BIN)/headrace demo $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/house

test: setup
	$(BIN)/pytest -q -n 2 -m "not broker" $(ARGS)
	$(BIN)/pytest -q -n 2 --dist loadfile -m broker tests/faults tests $(ARGS)

simulate: setup
	$(BIN)/python tests/simulation/simulate.py $(ARGS)

faults: setup
	$(BIN)/python tests/faults/run.py $(ARGS)

fuzz: setup
	$(BIN)/python tests/fuzz/run.py $(ARGS)

wheel: setup
	$(BIN)/python tests/house/installed.py

bench: setup
	@$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
