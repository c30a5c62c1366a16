# Every target sets up what it needs: a virtual environment in .venv (or VENV=path), made once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := stores aml_mil cli
DEMO := .demo
DEMO_PATIENTS ?= 60
DEMO_CELLS ?= 50

export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: demo setup test test-slow test-gpu check fix lint types layers clean
.DEFAULT_GOAL := check

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "aml-mil needs Python 3.11 or newer; give one with PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

demo: $(STAMP)
	$(BIN)/aml-mil synth $(DEMO)/cohort --patients $(DEMO_PATIENTS) --cells $(DEMO_CELLS) --seed 0
	$(BIN)/aml-mil embed $(DEMO)/cohort --encoder resnet18 --weights random:0 --out $(DEMO)/random.zarr
	$(BIN)/aml-mil fit-mil $(DEMO)/random.zarr --out $(DEMO)/runs/random --standardize --sampling natural --widths 128,64,32,32 --lr 0.003 --epochs 150 --patience 60

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m 'slow and not gpu'

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

check: lint types layers test

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
