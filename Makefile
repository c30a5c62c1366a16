# Every target sets up what it needs: a virtual environment in .venv (or VENV=path), made once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := stores aml_mil cli
DEMO := .demo
OFFLINE ?= offline
COHORT ?= $(DEMO)/cohort
STUDY ?= study
GPU_PYTHON ?= 3.12
GPU_LACKS ?= zarr msgspec donfig numcodecs google-crc32c imagecodecs simplejpeg natsort umap-learn pynndescent \
  albumentations albucore==0.0.24 stringzilla simsimd pydantic pydantic-core annotated-types typing-inspection \
  psutil click h5py bokeh tornado xyzservices
TESTS ?= tests
DEMO_PATIENTS ?= 60
DEMO_CELLS ?= 50

export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: demo gpu-pack offline-pack study setup test test-slow test-gpu check fix lint types layers clean
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

# For a machine without a network: OFFLINE/install.sh there needs Python alone, of this version.
offline-pack: $(STAMP)
	@test -d $(COHORT) || { echo "no cohort at $(COHORT); give one with COHORT=/path, or run make demo"; exit 1; }
	mkdir -p $(OFFLINE)
	$(BIN)/python -m pip wheel --quiet --wheel-dir $(OFFLINE)/wheels .
	tar -chf $(OFFLINE)/cohort.tar -C $(COHORT) .
	printf '%s\n' '#!/bin/sh' 'set -e' 'cd "$$(dirname "$$0")"' 'python3 -m venv venv' \
	  'venv/bin/python -m pip install --quiet --no-index --find-links wheels aml-mil' \
	  'mkdir -p cohort && tar -xf cohort.tar -C cohort' 'venv/bin/aml-mil doctor cohort' > $(OFFLINE)/install.sh
	chmod +x $(OFFLINE)/install.sh

# For a GPU machine that has torch and timm and no network: wheels of what it lacks, for its Python. There:
# python3 -m pip install --no-index --no-deps --target site gpu-pack/*.whl
# PYTHONPATH=site:. python3 -m benchmarks.on_gpu figures
gpu-pack: $(STAMP)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version $(GPU_PYTHON) \
	  $(foreach n,17 24 27 28 31 34,--platform manylinux_2_$(n)_x86_64) --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
	  --dest gpu-pack $(GPU_LACKS)

# The paper's study: make study COHORT=/path CELLS=/path [STUDY=study] [STUDY_FLAGS='--budget medium …'].
study: $(STAMP)
	@test -d "$(CELLS)" || { echo "name folders of patients and of annotated cells: make study COHORT=/path CELLS=/path"; exit 1; }
	$(BIN)/python -m benchmarks.study $(COHORT) --annotated $(CELLS) --out $(STUDY) --bundle $(STUDY)-model $(STUDY_FLAGS)

test: $(STAMP)
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m 'slow and not gpu' $(TESTS)

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
