# make demo and make test do all their own set-up; everything they need is in this repository.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := ccxt,torch,vectorbt

.PHONY: demo test stress bench clean

demo: .venv/demo
	$(BIN)/lab demo

test: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2

# Each fault as often as a night allows; the end of the report says how many were tried.
stress: .venv/test
	$(BIN)/pytest tests/faults --many

bench: .venv/bench
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.features

.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

.venv/test: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS),test]'
	touch $@ .venv/demo

.venv/bench: .venv/test
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS),test,bench]'
	touch $@

clean:
	rm -rf .venv
