# What is run by hand and by CI is the same: .ci/run calls these targets.
# Everything is installed into .venv, from the lock file, when the lock file has changed; what a router needs to run, and no
# more, into .venv-run, so that the demo needn't wait for the rest. Neither is touched by an installation of one's own.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUN := .venv-run
RUNNABLE := $(RUN)/.installed
COVERAGE := 90
# Of tests: one more than processors, since many wait for what they have started.
WORKERS := $(shell expr $$(nproc) + 1)

# Routers and mocks that are started by the hundred would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check lint types walls format lock docs bench ab fault-matrix pd-chaos chaos chaos-random hostile slowloris soak restart rollout engines fuzz binary site release clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(RUNNABLE) ## Start a router and three mock instances, send requests, kill an instance
	@PYTHONPATH=src $(RUN)/bin/python -m fd_router demo

test: $(INSTALLED) ## Run the whole test suite, with branch coverage
	$(BIN)/pytest --cov --cov-report=term --cov-fail-under=$(COVERAGE) --numprocesses=$(WORKERS) --dist=worksteal

check: lint types walls ## Run all checks that need no running code

lint: $(INSTALLED) ## Check style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED) ## Check types, strictly
	$(BIN)/mypy

walls: $(INSTALLED) ## Check who may import whom
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED) ## Format all code, mend what can be mended
	$(BIN)/ruff check --fix --exit-zero --silent
	$(BIN)/ruff format

docs: $(INSTALLED) ## Make the pages that are made of code anew: the configuration in both languages, the endpoints
	$(BIN)/fd-router config-reference > docs/configuration.md
	$(BIN)/fd-router config-reference --translation docs/options.zh.yaml > docs/configuration.zh.md
	$(BIN)/python -m fd_router.openai.reference > docs/endpoints.md

bench: $(INSTALLED) ## Measure start-up, memory, and CPU beside other routers (see benchmarks/README.md)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/pd_first_byte.py
	$(BIN)/python benchmarks/compare.py $(if $(PEERS),--peers $(PEERS))

ab: $(INSTALLED) ## Measure this tree against another one: make ab AGAINST=../other-checkout
	$(BIN)/python benchmarks/ab.py --against $(AGAINST)

fault-matrix: $(INSTALLED) ## Show what clients see of every fault of every role of a pair
	$(BIN)/python benchmarks/fault_matrix.py

restart: $(INSTALLED) ## Restart the router under load, five times, and count what is lost
	$(BIN)/python benchmarks/restart.py

rollout: $(INSTALLED) ## Restart and kill replicas and what they share under load, twenty times each, and count what is lost
	$(BIN)/python benchmarks/rollout.py

pd-chaos: $(INSTALLED) ## Send 2,000 requests at once while instances of both roles are killed
	$(BIN)/python benchmarks/pd_chaos.py

chaos: $(INSTALLED) ## Let instances, the system and the router itself fail under load; show what was lost
	$(BIN)/python benchmarks/chaos.py

chaos-random: $(INSTALLED) ## Play 500 random schedules of faults; nothing may be counted, open or lost afterwards
	$(BIN)/python benchmarks/chaos_random.py

hostile: $(INSTALLED) ## Send hostile requests to the router, nginx and other routers (PEERS); show what came through
	$(BIN)/python benchmarks/hostile.py $(if $(PEERS),--peers $(PEERS))

slowloris: $(INSTALLED) ## Measure what 1,000 clients notice of 9,000 that hold connections with slow requests
	$(BIN)/python benchmarks/slowloris.py

soak: $(INSTALLED) ## Send 5 million requests, or for 10 minutes; fail if memory grows or anything is left
	$(BIN)/python benchmarks/soak.py

ENGINES ?= .engines

engines: $(INSTALLED) ## Run the router before real vLLM servers on this CPU (4 to 11 GB, 20 minutes; SCENARIOS=smoke: just that one)
	$(BIN)/python benchmarks/engines/run.py --folder $(ENGINES) $(SCENARIOS)

SECONDS_OF_FUZZ ?= 60

fuzz: $(INSTALLED) ## Fuzz what stands around the parsers, guided by coverage (needs: pip install atheris)
	for what in requests answers bodies; do $(BIN)/python benchmarks/fuzz.py $$what -max_total_time=$(SECONDS_OF_FUZZ) || exit 1; done

binary: $(INSTALLED) ## Build dist/fd-router, one executable that needs no Python, and try it (needs: binutils)
	$(BIN)/pyinstaller --noconfirm --log-level WARN --distpath dist --workpath build/pyinstaller packaging/fd-router.spec
	$(BIN)/python packaging/smoke.py dist/fd-router

SITE := .venv-site
SITE_INSTALLED := $(SITE)/.installed

site: $(SITE_INSTALLED) ## Make the documentation a site that can be searched: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict --quiet
	@echo "build/site/index.html"

RELEASE := .venv-release
RELEASE_INSTALLED := $(RELEASE)/.installed

release: $(RELEASE_INSTALLED) ## Build wheel and sdist reproducibly, check them, list and audit what they stand on: dist/release; WITH=--without-audit
	$(RELEASE)/bin/python packaging/release.py $(WITH)

RESOLVE := --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header
COMPILE := $(BIN)/uv pip compile pyproject.toml $(RESOLVE)

lock: $(INSTALLED) ## Write the lock files anew; UPGRADE=--upgrade takes newer versions
	$(COMPILE) $(UPGRADE) --output-file requirements.lock
	$(COMPILE) $(UPGRADE) --constraint requirements.lock --extra plots --extra dns --extra kubernetes --extra kv-events --extra redis --extra tokenizer --extra otel --extra tui --extra tune --group dev --output-file requirements-dev.lock
	$(COMPILE) $(UPGRADE) --constraint requirements.lock --extra dns --extra kubernetes --extra kv-events --extra redis --extra otel --output-file requirements-image.lock
	$(BIN)/uv pip compile $(RESOLVE) $(UPGRADE) --group site --output-file requirements-site.lock
	$(BIN)/uv pip compile $(RESOLVE) $(UPGRADE) --group release --output-file requirements-release.lock

clean: ## Remove what was made here
	rm -rf $(VENV) $(RUN) $(SITE) $(RELEASE) .engines build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage

NEW_PYTHON := import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None

# The lock file names every package: without --no-deps, an older pip asks "coverage[toml]" for a version newer than the locked one.
$(INSTALLED): requirements-dev.lock pyproject.toml
	$(PYTHON) -c '$(NEW_PYTHON)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(INSTALLED)

$(SITE_INSTALLED): requirements-site.lock
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements-site.lock
	@touch $(SITE_INSTALLED)

$(RELEASE_INSTALLED): requirements-release.lock
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements-release.lock
	@touch $(RELEASE_INSTALLED)

$(RUNNABLE): requirements.lock
	@$(PYTHON) -c '$(NEW_PYTHON)'
	$(PYTHON) -m venv $(RUN)
	$(RUN)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement requirements.lock
	@touch $(RUNNABLE)
