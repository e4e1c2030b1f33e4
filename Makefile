# The two commands: `make run` and `make test`. The first of them makes .venv and installs what is pinned.
PYTHON ?= python3
BIN := .venv/bin
RECIPE ?= recipes/starter.yaml
export DO_NOT_TRACK := true

.PHONY: run test test-all torture check lint up down serve bench bench-audits audit sbom help

help:
	@echo "make run     take $(RECIPE) through the whole pipeline (RECIPE=... for another)"
	@echo "make test    the tests, but for the slow ones"
	@echo "make test-all   all tests"
	@echo "make torture    faults, races and hostile input in full: about an hour"
	@echo "make check   lint, types and all tests: what CI runs"
	@echo "make up      the Prefect and MLflow servers and the deployments, on loopback"
	@echo "make down    stop them"
	@echo "make serve   every champion behind HTTP, on loopback"
	@echo "make bench   the benchmarks, side by side"
	@echo "make bench-audits   the audits on planted truths, with all seeds"
	@echo "make audit   known vulnerabilities of what is pinned; asks the package index"
	@echo "make sbom    what is installed, as a bill of materials: var/sbom.json"

run: .venv/installed
	@$(BIN)/python -m flows pipeline $(RECIPE)

test: .venv/installed
	@$(BIN)/python -m pytest -m "not slow"

test-all: .venv/installed
	@$(BIN)/python -m pytest

torture: .venv/installed
	@$(BIN)/python -m pytest --torture tests/test_torture_*.py --durations=0

lint: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: lint test-all

up down serve: .venv/installed
	@$(BIN)/python -m flows $@

bench: .venv/installed
	@for script in training tokenizing pair_scoring overhead foundation_seeds gate; do $(BIN)/python benchmarks/$$script.py || exit 1; done

bench-audits: .venv/installed
	@$(BIN)/python benchmarks/audits.py

# A package that could not be asked for counts as a fault: a list that says nothing must not read as a clean one.
audit: .venv/audit/installed
	@.venv/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

sbom: .venv/installed .venv/audit/installed
	@mkdir -p var
	@.venv/audit/bin/cyclonedx-py environment .venv --pyproject pyproject.toml --output-reproducible --of JSON -o var/sbom.json
	@echo "var/sbom.json"

# The tools that look at the environment are no part of it.
.venv/audit/installed: constraints-audit.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check --requirement constraints-audit.txt
	@touch $@

# torch comes first and alone: the version that is pinned, before another package asks for a newer one. PEP 517 has to be
# asked for with the pip of Debian 12, whose older way builds seqeval with whatever version of its tools is newest.
.venv/installed: pyproject.toml constraints.txt
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable ".[dev]"
	@touch $@
