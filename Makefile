# Needs Python >= 3.11 and make; everything else goes into .venv.
PYTHON ?= python3
RUN = .venv/bin/python
WORKDIR ?= runs/pretrain
PIP = $(RUN) -m pip --disable-pip-version-check install --quiet --no-compile

.PHONY: pretrain data test plan-test lint site clean help

pretrain: data  ## Pretrain CG-DMER on the embedded data and report.
	$(RUN) -m cgdmer_jax.main --config=configs/pretrain.py --workdir=$(WORKDIR)

data: .venv/installed  ## Build the embedded data set.
	$(RUN) -m data_builders.build --dataset=synthetic_ecg/demo

# Programs that tests start import JAX: three times as fast with byte code.
test: .venv/test-installed lint  ## Linters and tests.
	PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest -n 2 --dist worksteal

# Compiles for slices that are not there; skipped without their compiler.
plan-test: .venv/test-installed  ## Steps compiled for TPUs; needs extra plan.
	CGDMER_PLAN_TEST=1 $(RUN) -m pytest tests/planning/test_tpu.py

lint: .venv/test-installed  ## Linters.
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	.venv/bin/shellcheck launch/*.sh launch/slurm.sbatch

# Pages lie where they lie in the repository, so their links hold in both.
PAGES = README.md CONTRIBUTING.md LICENSE CITATION.cff launch/*.md \
  data_builders/*.md data_builders/*/*.md docs/*.md docs/*.png docs/*.ipynb

site: .venv/docs-installed  ## The pages as a site in build/site; links are checked.
	rm -rf build/pages
	mkdir -p build/pages
	tar c $(PAGES) | tar x -C build/pages
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python >= 3.11 is needed; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

.venv/test-installed: .venv/installed
	$(PIP) --editable '.[test]'
	touch $@

.venv/docs-installed: .venv/installed
	$(PIP) --editable '.[docs]'
	touch $@

help:  ## What can be made.
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST)

clean:  ## Remove the environment; data/ and runs/ stay.
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache
