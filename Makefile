# `make demo` and `make test` are all that a new machine needs: Python 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Trained nets for tests of real conversions; without their dependencies, which pin an older torch.
NETS := facenet-pytorch silero-vad
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test check format lint types imports docs apple-suite benchmarks clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# torch is named first and by its version alone: a range would take the newest build with gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) --version 2>&1`"; exit 2; }
	@$(PYTHON) -m venv --help >/dev/null 2>&1 || { echo "the venv module is missing: apt-get install python3-venv"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (about two minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps $(NETS)
	@touch $@

demo: $(STAMP)  ## the whole story on real photos, in a minute
	$(BIN)/coremlops demo

test: $(STAMP)  ## all tests, in parallel
	$(BIN)/python -m pytest -n 2 --dist loadscope

check: lint types imports docs test apple-suite  ## what CI runs

format: $(STAMP)  ## rewrite the sources in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports --no-cache

docs: $(STAMP)  ## fail when a generated page is stale; `python tools/generate_docs.py` rewrites them
	$(BIN)/python tools/generate_docs.py --check

apple-suite: $(STAMP)  ## a fixed, spread part of coremltools' own tests, with our predictions
	$(BIN)/python benchmarks/apple_suite/run.py subset

benchmarks: $(STAMP)  ## measure again (minutes); results land beside each script
	$(BIN)/python benchmarks/runtime/latency.py
	$(BIN)/python benchmarks/pipeline/overhead.py

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .hypothesis
