# make book   install what is needed, run the default study, build the book
# make pdf    the book as one PDF besides, where Chromium is installed
# make test   install what is needed, run the tests
# make install  all packages, with those that only tests and harness tasks need
# make data   build the facts of worldfacts anew from five packages, and compare them with the frozen list
# make lab    train the models of the lab that have no checkpoint; delete kc_lab/checkpoints/ to train all anew
# STUDY=smoke makes the small study's book instead; PYTHON=... names another Python 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STUDY ?= laptop
EXTRAS := book,quantization
BIN := .venv/bin
READY := .venv/.ready
READY_TO_TEST := .venv/.ready-to-test
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
# Much of the packages is never imported here, and what is left out is compiled when it is. Some files are no Python 3.11.
RARE := /(tests?|testing|_inductor|fontTools|networkx|nltk|pip|plotly|setuptools|sklearn|statsmodels)/|/transformers/models/
COMPILE := { $(BIN)/python -m compileall -qq -j 0 -x '$(RARE)' .venv/lib || true; }

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book pdf test lab data install lint clean

book: $(READY)
	@$(BIN)/kc book $(STUDY)

pdf: book
	@$(BIN)/kc pdf

test: install
	@$(BIN)/ruff check kc_utils kc_lab data tests benchmarks
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lab: $(READY)
	@$(BIN)/kc lab train --all

data: $(READY)
	@$(PIP) -e '.[data]'
	@$(BIN)/python data/worldfacts/build.py

install: $(READY_TO_TEST)

# all at once where nothing is installed yet: pip looks for versions that fit once
test install lint: EXTRAS := book,quantization,harness,test

# pip compiles on one core what compileall compiles on all, beside the package that has to be built
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "Python 3.11 is needed; found $$($(PYTHON) --version 2>&1). Name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@start=$$(date +%s); \
	$(PYTHON) -m venv .venv && \
	$(PIP) --no-compile setuptools wheel -e '.[$(EXTRAS)]' && \
	{ $(COMPILE) & $(PIP) --no-build-isolation gptqmodel; built=$$?; wait; test $$built = 0; } && \
	echo '$(EXTRAS)' > $(READY) && \
	echo "install                      $$(( $$(date +%s) - start )) s"

# what only tests and harness tasks need
$(READY_TO_TEST): $(READY)
	@grep -q test $(READY) || { start=$$(date +%s); \
	$(PIP) --no-compile -e '.[harness,test]' && \
	$(COMPILE) && \
	echo "install for tests and tasks  $$(( $$(date +%s) - start )) s"; }
	@touch $(READY_TO_TEST)

lint: install
	@$(BIN)/ruff check kc_utils kc_lab data tests benchmarks
	@$(BIN)/ruff format --check kc_utils kc_lab data tests benchmarks

clean:
	rm -rf _build book/results results/runs results/logs .snakemake
