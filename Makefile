# Every target creates .venv when there is none and installs what it needs, once.
#   PYTHON=python3.12 make test    another interpreter (3.11 or newer)
#   JOBS=4 make test               more test processes
# On Linux plain PyPI brings PyTorch with CUDA; for the smaller CPU build:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python
PIP_INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO_EXTRAS := train,plot

# One thread per process: the work is many small arrays, and two cores are shared by two test processes.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help demo test lint types wheel timing unit bench docs format constraints clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

demo: $(VENV)/.installed-demo  ## train a policy under faults and compare it with every baseline
	$(RUN) -m brownout demo

test: lint types wheel timing unit  ## everything CI runs

lint: $(VENV)/.installed-dev  ## ruff
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.installed-dev build/typing/brownout  ## pyright
	$(RUN) -m pyright --pythonpath $(RUN)

wheel: $(VENV)/.installed-dev  ## install the built wheel into empty environments and use it
	$(RUN) tests/wheel_check.py

timing: $(VENV)/.installed-dev  ## the tests that measure time, alone
	$(RUN) -m pytest -m timing

unit: $(VENV)/.installed-dev  ## all other tests, docstring examples included
	$(RUN) -m pytest -m "not timing" -n $(JOBS) --dist loadgroup

bench: $(VENV)/.installed-dev  ## every script of benchmarks/
	shopt -s nullglob; for script in benchmarks/*.py; do echo "== $$script"; $(RUN) "$$script"; done

docs: $(VENV)/.installed-dev  ## every script of docs/: generated pages and pictures
	shopt -s nullglob; for script in docs/*.py; do echo "== $$script"; $(RUN) "$$script"; done

format: $(VENV)/.installed-dev  ## ruff, mending what it can
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

constraints: $(VENV)/.installed-dev  ## write constraints.txt from the versions now in .venv
	$(RUN) tests/freeze.py > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:  ## remove build products and caches; .venv stays
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN):
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "brownout needs Python 3.11 or newer; found '$(PYTHON)'. Use: make PYTHON=/path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(RUN)
	$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.installed-demo $@

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(RUN)
	$(PIP_INSTALL) -e '.[$(DEMO_EXTRAS)]'
	@touch $@

# Pyright finds packages by folder name, and this folder may have any name.
build/typing/brownout:
	mkdir -p build/typing
	ln -sfn ../.. $@
