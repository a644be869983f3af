PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TESTED := .[notebooks,chimera,paper,docs,test]

.PHONY: demo test reliability matrix matrix-oldest matrix-newest wheels lab docs slides symbols lint clean

demo: $(VENV)/.package
	$(BIN)/infoclip-lite demo

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/infoclip-lite notebooks check

reliability: $(VENV)/.test
	$(BIN)/python -m pytest tests/reliability --reliability docs/reliability.md

# What computes and reads, and a little of each kind of damage, without pages, pictures and
# long trainings. All of them are run by `make matrix MATRIX=`, others by
# `make matrix MATRIX="tests/training tests/figures"`.
MATRIX ?= $(addprefix tests/,clip core datasets evaluation information objectives reliability segmentors)

# Tests with the oldest and with the newest versions that pyproject.toml allows.
matrix: matrix-oldest matrix-newest

matrix-oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --upgrade pip
	$(PYTHON) tests/versions.py > $(VENV)-oldest/constraints.txt
	$(VENV)-oldest/bin/python -m pip install --quiet -c $(VENV)-oldest/constraints.txt -e '$(TESTED)'
	$(VENV)-oldest/bin/infoclip-lite doctor
	$(VENV)-oldest/bin/python -m pytest $(MATRIX)

matrix-newest:
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager -e '$(TESTED)'
	$(VENV)-newest/bin/infoclip-lite doctor
	$(VENV)-newest/bin/python -m pytest $(MATRIX)

# For a machine with a GPU, torch and torchvision, but without a network. Another Python or system is named for
# pip: make wheels FOR="--python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64"
wheels: $(VENV)/.package
	rm -rf wheels
	$(BIN)/python tests/wheelhouse.py > $(VENV)/wheels.txt
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: $(FOR) -r $(VENV)/wheels.txt -d wheels
	$(BIN)/python -m pip wheel --quiet --no-deps . -w wheels

lab: $(VENV)/.notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html
	$(BIN)/python docs/explainer docs/_build/html/explainer

slides: $(VENV)/.docs
	$(BIN)/infoclip-lite notebooks slides

symbols: $(VENV)/.docs
	$(BIN)/python docs/symbols.py

lint: $(VENV)/.test
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest docs/_build docs/notebooks docs/generated build dist wheels *.egg-info runs

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
	$(BIN)/python -m pip install --quiet -e '.[docs,notebooks,chimera]'
	touch $@

$(VENV)/.test: $(VENV)/.notebooks
	$(BIN)/python -m pip install --quiet -e '$(TESTED)'
	touch $@
