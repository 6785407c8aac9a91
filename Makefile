# make run | test | test-pythons | lint | bench | crash | roll | soak | simulation | lock: each makes what it needs first (given Python 3.11, gcc, make).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
KILLS ?= 500
INSTANCES ?= 3
SEEDS ?= 2000
MINUTES ?= 10
NATIVE := $(wildcard core/iii_core/*.pyx core/iii_core/*.pxd)
CHROMIUM := /usr/bin/chromium
.PHONY: run test test-pythons lint bench crash roll soak simulation lock chromium clean

run: $(VENV)/.installed
	@exec $(BIN)/iii run -c iii-config.yaml

test: $(VENV)/.installed-test chromium
	$(BIN)/python -m pytest

# The parts that depend most on Python's own, on each later version that the machine has; each in its own venv.
test-pythons:
	@.ci/test-pythons 3.12 3.13

lint: $(VENV)/.installed-test
	$(BIN)/python -m pytest tests/taste

bench: $(VENV)/.installed-bench
	$(BIN)/python bench/run.py $(ARGS)

# The long forms; the short ones are part of `make test`.
crash: $(VENV)/.installed-test
	$(BIN)/python tests/crash/kill_loop.py --kills $(KILLS) --instances $(INSTANCES)
	$(BIN)/python tests/crash/kill_loop.py --kills $(KILLS) --instances $(INSTANCES) --supervised
	$(BIN)/python tests/crash/power_cut.py

# From the first release to this one and back, under load. Builds that release from the repository's history.
roll: $(VENV)/.installed-test
	$(BIN)/python tests/crash/roll.py --instances $(INSTANCES)

soak: $(VENV)/.installed-test
	$(BIN)/python tests/crash/soak.py --minutes $(MINUTES)

simulation: $(VENV)/.installed-test
	$(BIN)/python tests/simulation/run.py --seeds $(SEEDS)

# What is installed has the version and the hash that constraints.txt gives it, build tools included.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "iii needs Python 3.11 or later; run make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.pip: $(VENV)/bin/python constraints.txt
	sed -n '/^pip==/,/[^\\]$$/p' constraints.txt > $(VENV)/pip.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/pip.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.pip pyproject.toml setup.py constraints.txt $(NATIVE)
	$(PIP_INSTALL) --group build
	$(PIP_INSTALL) --no-require-hashes --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP_INSTALL) --group test
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP_INSTALL) --group bench
	@touch $@

# After a change of what pyproject.toml asks for: pins and hashes in constraints.txt, docs/sbom.json.
lock: $(VENV)/.installed
	$(PIP_INSTALL) --no-require-hashes --group release
	VENV=$(VENV) .ci/lock

# What the browser tests open; where it cannot be had, the report of the tests names those that were left out.
chromium:
	@if [ ! -x $(CHROMIUM) ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium || true; \
	fi

clean:
	rm -rf $(VENV) .venv-* build data *.egg-info core/iii_core/*.so
