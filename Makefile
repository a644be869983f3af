PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lab docs lint clean

demo: $(VENV)/.package
	$(BIN)/infoclip-lite demo

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest
	$(BIN)/infoclip-lite notebooks check

lab: $(VENV)/.notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html
	$(BIN)/python docs/explainer docs/_build/html/explainer

lint: $(VENV)/.test
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy

clean:
	rm -rf $(VENV) docs/_build docs/notebooks docs/generated build dist *.egg-info runs

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.package: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.notebooks: $(VENV)/.package
	$(BIN)/python -m pip install --quiet -e '.[notebooks,chimera]'
	touch $@

$(VENV)/.docs: $(VENV)/.package
	$(BIN)/python -m pip install --quiet -e '.[docs,chimera]'
	touch $@

$(VENV)/.test: $(VENV)/.notebooks
	$(BIN)/python -m pip install --quiet -e '.[notebooks,chimera,paper,docs,test]'
	touch $@
