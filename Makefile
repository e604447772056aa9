PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: quickstart test oracle browser lint types floors check clean

$(BIN)/hornbook: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found. Install Python 3.11 or newer, or name it: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Hornbook needs Python 3.11 or newer. Name one: make PYTHON=python3.12"; exit 1; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing Hornbook into $(VENV) (PyTorch is large: a few minutes the first time) ..."
	@$(PIP) torch
	@$(PIP) -e '.[sandbox,studio]'
	@touch $@

$(VENV)/.dev: $(BIN)/hornbook
	@$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.oracle: $(VENV)/.dev
	@$(PIP) -e '.[oracle]'
	@touch $@

$(VENV)/.browser: $(VENV)/.dev
	@$(PIP) -e '.[browser]'
	@touch $@

quickstart: $(BIN)/hornbook
	$(BIN)/hornbook run phi --scale quick
	@echo "Now talk to it:  $(BIN)/hornbook chat"

# Two processes, a file of tests to each in turn; `make test JOBS=0` for one.
JOBS ?= 2
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

oracle: $(VENV)/.oracle
	$(BIN)/python -m pytest -m oracle

# Needs a Chromium (Debian: apt-get install chromium), or CHROMIUM=/path/to/it.
browser: $(VENV)/.browser
	$(BIN)/python -m pytest -m browser tests/studio

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

floors: $(VENV)/.dev
	$(BIN)/lint-imports

check: lint types floors test

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
