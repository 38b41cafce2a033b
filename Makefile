# Three commands do everything on a machine with Python (>= 3.11), pip and make:
#   make demo [DATA=path/to/ml-1m]   fit base DIN and MARS, compare them, show what was borrowed
#   make test                        style, types, folder order, and the test suite
#   make docs                        the site, in docs/_build/html; runs the examples
# A fourth needs Python 3.11 and 8 GB of disk:
#   make lowest                      the test suite with the lowest versions of all that it depends on
PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DATA ?=
# How many processes run the tests: a number, or one a core (tests/conftest.py). Each test uses one
# thread, and those who share module fixtures stay together until a process has nothing left to do.
WORKERS ?= auto
PYTEST = bin/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test slow lint lowest docs clean

demo: $(VENV)/.test $(if $(DATA),$(VENV)/.bench)
	$(BIN)/python examples/demo.py $(if $(DATA),--data "$(DATA)")

test: lint
	$(VENV)/$(PYTEST)

slow: $(VENV)/.test
	$(VENV)/$(PYTEST) -m slow

lowest: $(LOWEST)/.all
	$(LOWEST)/$(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# The environment is made once, and again when what it is made from changes.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

COMPILED := hatch_build.py $(wildcard skmars/ctr/_kernel/*.cpp skmars/ctr/_kernel/*.h)

$(VENV)/.test: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	$(PIP) -e ".[test,lint]"
	touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) -e ".[test,lint,bench]"
	touch $@

$(VENV)/.docs: $(VENV)/.test
	$(PIP) -e ".[test,lint,docs]"
	touch $@

# All extras but `lint`, and Python itself, at their lowest. (FastAPI's test client of that time asks
# for httpx, that of today for httpx2.)
$(LOWEST)/.all: pyproject.toml constraints-lowest.txt
	python3.11 -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints-lowest.txt -e ".[test,text,image,ann,plot,progress,docs,bench]" httpx
	touch $@

clean:
	git clean -fdXq docs
	rm -rf $(VENV) $(LOWEST) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
