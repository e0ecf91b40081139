# make book   install what is needed, run the default study, build the book
# make pdf    the book as one PDF besides, where Chromium is installed
# make test   install what is needed, run the tests
# make lab    train the models of the lab that have no checkpoint; delete kc_utils/lab/checkpoints/ to train all anew
# STUDY=smoke makes the small study's book instead; PYTHON=... names another Python 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STUDY ?= laptop
BIN := .venv/bin
READY := .venv/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book pdf test lab install lint clean

book: install
	@$(BIN)/kc book $(STUDY)

pdf: book
	@$(BIN)/kc pdf

test: install
	@$(BIN)/ruff check kc_utils tests benchmarks
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lab: install
	@$(BIN)/kc lab train --all

install: $(READY)

# pip compiles on one core what compileall compiles on all; files that are no Python 3.11, in some packages, stay as they are
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "Python 3.11 is needed; found $$($(PYTHON) --version 2>&1). Name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@start=$$(date +%s); \
	$(PYTHON) -m venv .venv && \
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt setuptools wheel -e '.[book,quantization,harness,test]' && \
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt --no-build-isolation gptqmodel && \
	{ $(BIN)/python -m compileall -qq -j 0 .venv/lib; true; } && \
	touch $(READY) && \
	echo "install                      $$(( $$(date +%s) - start )) s"

lint: install
	@$(BIN)/ruff check kc_utils tests benchmarks
	@$(BIN)/ruff format --check kc_utils tests benchmarks

clean:
	rm -rf _build book/results results/runs results/logs results/locks .snakemake
