# What one types when working on Fairlead; `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
ifeq ($(origin PYTHON),file)
SETUP := scripts/setup.sh
else
# Another Python (make unit PYTHON=...) is taken as it is: nothing is installed for it.
SETUP := true
export PYTHONPATH := src
endif

# Tests for every few minutes, and those with a target of their own; a directory counts as soon as it exists.
UNIT := $(wildcard tests/unit tests/rules tests/worlds tests/scenarios)
LEVELS := $(patsubst tests/%,test-%,$(wildcard tests/contracts tests/kubernetes tests/kernel tests/bpf tests/lab tests/runtimes))
BENCHES := $(filter-out lib node pair played remote byhand ways crowd,$(basename $(notdir $(wildcard bench/[a-z]*.py))))

PYTEST := $(PYTHON) -m pytest
TESTS ?= tests
# Most tests wait for kernels and daemons: three at a time on two cores, a file each; those marked `alone` are.
TOGETHER := -n 3 --dist loadfile --no-loadscope-reorder
say = echo "==> $(1)"

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@for level in $(LEVELS); do printf 'make %-18s run tests/%s alone\n' $$level $${level#test-}; done

.PHONY: demo
demo: ## install what is needed and show Fairlead at work (root)
	@$(SETUP) demo
	@$(PYTHON) examples/demo/main.py

.PHONY: test
test: ## install what the tests need, run all of them, leave nothing behind (root)
	@$(SETUP) test
	@set +e; $(MAKE) check; check=$$?; \
	$(call say,tests: all of them); $(PYTEST) $(TOGETHER) --leftovers $(TESTS) </dev/null; tests=$$?; \
	if ((tests == 1)); then $(call say,tests: those that failed beside others$(COMMA) once more and alone); \
	$(PYTEST) --last-failed --last-failed-no-failures none --leftovers $(TESTS) </dev/null; tests=$$?; fi; \
	((check == 0)) || echo "make check failed: see above, before the tests" >&2; \
	exit $$((check | tests))

.PHONY: check
check: ## ruff, mypy and the import rules; no root
	@$(SETUP) test
	@$(call say,ruff: the rules); $(PYTHON) -m ruff check --quiet
	@$(call say,ruff: the format); $(PYTHON) -m ruff format --check --quiet
	@$(call say,mypy: the types); $(PYTHON) -m mypy --no-error-summary
	@$(call say,lint-imports: who may import whom); said=$$($(dir $(PYTHON))lint-imports --no-logo) || { echo "$$said"; exit 1; }

.PHONY: unit
unit: ## the quick tests, with fewer examples; no root
	@$(SETUP) test
	@$(call say,tests: $(UNIT)); HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-quick} $(PYTEST) $(TOGETHER) $(UNIT)

.PHONY: $(LEVELS)
$(LEVELS): test-%:
	@$(SETUP) test
	@$(call say,tests: tests/$*); $(PYTEST) tests/$*

.PHONY: bench
bench: ## NAME=x: measure, side by side with what is used today; without NAME: list what can be measured
ifdef NAME
	@$(SETUP) bench
	@$(PYTHON) bench/$(NAME).py
else
	@echo "make bench NAME=one of: $(or $(BENCHES),(there is none yet))"
endif

.PHONY: setup-run setup-test
setup-run: ## install what running Fairlead needs, into the system and .venv (root)
	@$(SETUP) build
setup-test: ## install what the tests need, into the system and .venv (root)
	@$(SETUP) test

.PHONY: constraints
constraints: ## write constraints.txt anew with the latest versions that pyproject.toml allows
	@$(call say,the newest versions$(COMMA) in build/newest)
	@python3 -m venv --clear build/newest
	@build/newest/bin/python -m pip install --quiet hatchling editables
	@build/newest/bin/python -m pip install --quiet --no-build-isolation --editable '.[dev]'
	@{ grep '^#' constraints.txt; build/newest/bin/python -m pip freeze --exclude-editable; } >build/constraints.txt
	@mv build/constraints.txt constraints.txt; rm -rf build/newest; git diff --stat -- constraints.txt

.PHONY: clean
clean: ## remove what was built or installed here, and caches
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

COMMA := ,
