# make run    the demo: a recorded kernel trace replayed on 4 CPU processes
# make test   lint, then the whole suite
# The first call makes .venv, which needs python3 (3.11 or newer) with its venv module, and the package index.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test test-wheel lint format coverage docs clean

help:
	@echo 'make run        the demo: a recorded kernel trace replayed on 4 CPU processes'
	@echo 'make test       lint, then the whole suite'
	@echo 'make test-wheel the suite against the wheel, from a directory without the source'
	@echo 'make lint       ruff, mypy, import-linter'
	@echo 'make format     put the source into the form that lint wants'
	@echo 'make coverage   the small-machine suite in interpreted mode, line by line'
	@echo 'make docs       the pages that are made from the source, and the site in build/site'
	@echo 'make clean      remove what was built here'

$(READY): pyproject.toml
	@echo 'making $(VENV) (once)'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

run: $(READY)
	@$(BIN)/emu demo

test: lint
	@$(BIN)/python -m pytest

# Against what users install, from a directory without the source.
test-wheel: $(READY)
	@rm -rf build/wheel && mkdir -p build/wheel/empty
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	@$(BIN)/python -m pip install --quiet --no-deps --target build/wheel/site build/wheel/*.whl
	@cp -r tests docs examples pyproject.toml README.md build/wheel/empty
	@cd build/wheel/empty && PYTHONPATH=$(CURDIR)/build/wheel/site $(CURDIR)/$(BIN)/python -m pytest \
		--ignore=tests/test_project.py --ignore=tests/test_wheel.py

lint: $(READY)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

format: $(READY)
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/ruff format --quiet

# Compiled functions can't be measured, so the model runs as plain Python, in this process and in its forks.
coverage: $(READY)
	@$(BIN)/coverage erase
	@EMU_MODE=interpreted $(BIN)/coverage run -m pytest -m 'not slow and not tool'; tests=$$?; \
		$(BIN)/coverage combine --quiet; $(BIN)/coverage report; exit $$tests

docs: $(READY)
	@$(BIN)/python docs/tools/make.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	@rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache \
		.ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
