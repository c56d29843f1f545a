# `make train` and `make test` set up everything they need; `make setup` does only that.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup train test test-slow docs clean

setup: .venv/ready

# torch comes first and by its exact version: a range may pull gigabytes for a GPU that is not there.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "metarl needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/ready

# About five minutes on two cores. Ctrl-C saves; the same command goes on from there.
train: setup
	$(BIN)/metarl train maml-trpo/half-cheetah-dir --iterations 50 --out runs/first

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

# Learning and memory, which take minutes.
test-slow: setup
	$(BIN)/python -m pytest -q -m slow -n 0

# The site, in build/docs/index.html; warnings are errors, and the built pages are checked.
docs: setup
	rm -rf build/docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	$(BIN)/python -m pytest -q -m slow -n 0 tests/test_site.py

clean:
	rm -rf .venv build docs/reference/generated *.egg-info .mypy_cache .pytest_cache .ruff_cache
