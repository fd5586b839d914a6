# `make help` lists what there is. Needs Python 3.11 or newer and make, nothing else.

VENV ?= .venv
# Set to a certain Python to build with that one.
PYTHON ?=

STAMP := $(VENV)/.captioner-installed
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test bench kills install
.DELETE_ON_ERROR:

help:
	@echo "make demo     draw scenes, train a captioner on them, score it, caption held-out scenes, write the gallery"
	@echo "make test     the linter, the type checker and the test suite"
	@echo "make bench    the benchmarks: ratios against a floor or a peer"
	@echo "make kills    1,000 kills of a small training: nothing may be lost (an hour or two)"
	@echo "make install  only build the virtual environment (the others do so by themselves)"
	@echo
	@echo "The virtual environment is $(VENV); VENV=path uses another, PYTHON=python3.12 builds it with that Python."

demo: $(STAMP)
	$(BIN)/python -m captioner.cli.main demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

kills: $(STAMP)
	@$(BIN)/python benchmarks/kills.py --kills 1000

bench: $(STAMP)
	@set -e; for program in benchmarks/scores.py benchmarks/search.py benchmarks/hard_gradient.py benchmarks/sheets.py benchmarks/allocator.py; do echo "== $$program"; $(BIN)/python $$program; done

install: $(STAMP)

# The stamp is written last: an environment without it was left half built and is built anew. A newer pyproject.toml only installs again.
$(STAMP): pyproject.toml
	@if [ -d "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ] && [ -n "$$(ls -A "$(VENV)")" ]; then \
		echo "$(VENV) is a folder with other things in it, not a virtual environment: give VENV=path another" >&2; exit 1; \
	fi
	@if [ ! -e "$@" ] || ! "$(BIN)/python" -c ""; then \
		for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
			if command -v "$$python" >/dev/null && "$$python" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then \
				found="$$python"; break; \
			fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "no Python 3.11 or newer (with its venv module) was found: install one, or give PYTHON=path" >&2; exit 1; \
		fi; \
		echo "building $(VENV) with $$("$$found" --version): minutes, and some gigabytes"; \
		"$$found" -m venv --clear "$(VENV)"; \
	fi
	"$(BIN)/python" -m pip install --disable-pip-version-check --quiet --editable ".[test]"
	@touch "$@"
