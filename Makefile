# Everything runs in .venv. `make help` lists the targets.

PYTHON ?= python3
DATA   ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/installed
DEMO  := runs/demo

PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest $(if $(DATA),--data="$(DATA)")

.DEFAULT_GOAL := help
.PHONY: help install demo test lint type test-slow dist clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv with eqlib (editable) and everything that the tests need

# torch comes first, and pinned: unpinned it would be replaced by the newest build.
$(STAMP): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "eqlib needs Python >= 3.11, named like this: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --constraint constraints.txt --no-build-isolation \
	    --editable ".[dev,plot,tensorboard,triton]"
	@touch $@

demo: install $(DEMO)/report.json  ## train the N-body model in minutes, show its report
	@cat $(DEMO)/report.md
	@echo "picture: $(DEMO)/predictions.png"

$(DEMO)/report.json:
	$(BIN)/eqlib train nbody --model egnn --preset quick --out $(DEMO) --resume

test: lint type  ## lint, check types, run all tests but the slow ones (DATA=dir: on real data too)
	$(PYTEST) -n logical --maxprocesses 8 -m "not slow"

test-slow: install  ## run the slow tests (DATA=dir: on real data too)
	$(PYTEST) -m slow

lint: install  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install  ## check types
	$(BIN)/mypy

dist: install  ## build the sdist and the wheel into dist/
	$(BIN)/python -m build --no-isolation

clean:  ## remove what was built and cached, but neither .venv nor runs
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
