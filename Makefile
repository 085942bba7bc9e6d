# `make demo` runs the whole platform on this machine, `make test` tests it; both make what they need in .venv.
# Needs Linux (x86-64), Python 3.11 and make. The tests also need Chromium, node, baresip and sipp.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := platform:.

# An environment is renewed when its pinned packages change: their hash is in the stamp's name.
installed = $(VENV)/.$(1)-$(shell cat requirements/base.txt $(2) | sha256sum | cut -c1-16)
RUNTIME := $(call installed,runtime)
DEVELOPMENT := $(call installed,development,requirements/dev.txt)
ENGINES := $(call installed,engines,requirements/engines.txt requirements/torch-cpu.txt requirements/torch-gpu.txt requirements/engines-cuda.txt)
# The lists are complete: there is nothing to resolve.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps
MODELS := $(BIN)/python -m gpu_workers.cascade.prepare > /dev/null

# A production's settings, good enough for the checks of them.
SECRET = $$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(48))')
AS_IN_PRODUCTION = env WARMLINE_ENVIRONMENT=production PUBLIC_URL=https://warmline.example \
	GATEWAY_URL=wss://calls.warmline.example WARMLINE_SECRET_KEY=$(SECRET) METRICS_TOKEN=$(SECRET) \
	WARMLINE_CONTENT_KEY=$$(head -c 32 /dev/urandom | base64) LOCAL_SUPERVISOR_TOKEN=$(SECRET) \
	EMAIL_HOST=mail.warmline.example BEHIND_PROXY=true \
	DATABASE_URL=postgresql://app@127.0.0.1/warmline DATABASE_OPERATOR_URL=postgresql://operator@127.0.0.1/warmline \
	DATABASE_OWNER_URL=postgresql://owner@127.0.0.1/warmline

.PHONY: help setup demo run check test bench bench-engines bench-gateway bench-telephony chaos requirements clean

help:
	@echo 'make demo          run the whole platform here, filled with a few businesses; Ctrl-C stops it'
	@echo 'make run           the same without filling it'
	@echo 'make test          run all tests (TESTS=tests/voice for some)'
	@echo 'make check         lint, types, templates, migrations, settings'
	@echo 'make bench         measure what docs/performance.md shows'
	@echo 'make bench-engines measure what docs/engines.md shows'
	@echo 'make bench-gateway measure what docs/gateway.md shows, beside nginx'
	@echo 'make bench-telephony measure what docs/telephony.md shows'
	@echo 'make chaos         break everything under a hundred calls, and see whether one gets lost'
	@echo 'make setup         only make the environment'
	@echo 'make requirements  pin the packages of requirements/*.in (UPGRADE=--upgrade for newer ones)'
	@echo 'make clean         remove the environment and caches; data in .warmline stays'

$(RUNTIME):
	@command -v $(PYTHON) > /dev/null || { echo 'Python 3.11 is missing. Install it, or name one: make PYTHON=/path/to/python3.11'; exit 1; }
	@echo 'Installing packages into $(VENV) (a minute or two, only the first time)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/base.txt
	@rm -f $(VENV)/.runtime-* && touch $@

$(DEVELOPMENT): $(RUNTIME)
	@$(PIP) -r requirements/dev.txt
	@rm -f $(VENV)/.development-* && touch $@

$(ENGINES): $(RUNTIME)
	@echo 'Installing torch and Moshi into $(VENV)'
	@$(PIP) -r requirements/engines.txt
	@{ ! command -v nvidia-smi > /dev/null && $(PIP) -r requirements/torch-cpu.txt 2> /dev/null; } || \
		$(PIP) -r requirements/torch-gpu.txt -r requirements/engines-cuda.txt
	@rm -f $(VENV)/.engines-* && touch $@

setup: $(DEVELOPMENT) $(ENGINES)
	@$(MODELS)

demo: $(RUNTIME)
	@$(MODELS)
	@exec $(BIN)/python manage.py demo $(DEMO_OPTIONS)

run: $(RUNTIME)
	@$(MODELS)
	@exec $(BIN)/python manage.py demo --no-seed $(DEMO_OPTIONS)

check: $(DEVELOPMENT)
	@test ! -e platform/__init__.py || { echo 'platform/__init__.py would hide the module platform of the standard library: remove it.'; exit 1; }
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy platform gpu_workers
	$(BIN)/djlint --quiet --lint templates
	@$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run  # without a database
	@$(AS_IN_PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING

test: $(DEVELOPMENT) $(ENGINES)
	@command -v node > /dev/null || { echo 'node is missing: apt-get install nodejs'; exit 1; }
	@command -v baresip > /dev/null || { echo 'baresip is missing: apt-get install baresip-core'; exit 1; }
	@command -v sipp > /dev/null || { echo 'sipp is missing: apt-get install sip-tester'; exit 1; }
	@command -v chromium > /dev/null || command -v google-chrome > /dev/null || { echo 'Chromium is missing: apt-get install chromium'; exit 1; }
	@$(MODELS)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadscope $(TESTS)

bench: $(DEVELOPMENT)
	@$(MODELS)
	$(BIN)/python -m benchmarks

COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11 $(UPGRADE)

bench-engines: $(DEVELOPMENT) $(ENGINES)
	@$(MODELS)
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.worker_turns

bench-gateway: $(DEVELOPMENT)
	@$(MODELS)
	$(BIN)/python -m benchmarks.gateway

bench-telephony: $(DEVELOPMENT)
	$(BIN)/python -m benchmarks.telephony

chaos: $(DEVELOPMENT) $(ENGINES)
	$(BIN)/python -m benchmarks.chaos

requirements: $(DEVELOPMENT)
	@$(COMPILE) requirements/base.in -o requirements/base.txt
	@$(COMPILE) requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) --constraints requirements/base.txt requirements/workers.in -o requirements/workers.txt
	@$(COMPILE) --python-platform x86_64-manylinux_2_28 requirements/llm.in -o requirements/llm.txt
	@$(COMPILE) --no-header --override requirements/engines-overrides.txt --no-emit-package torch requirements/engines.in | \
		awk '/^[a-z]/ { into = /^(cuda|nvidia|triton)/ ? "-cuda" : "" } { print > ("requirements/engines" into ".txt") }'

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
