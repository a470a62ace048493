# One short command for each intent, the same by hand and in CI. Nothing is needed but git, make and Python >= 3.11.
# `exec`: the command is make's own child, so that it hears of make's death (see workers/cli/deathsig.py).
PYTHON ?= python3
BIN := .venv/bin
TOO_OLD = Python 3.11 or later is needed, and $(PYTHON) is not; name another: make PYTHON=python3.12

.DEFAULT_GOAL := help
.PHONY: help setup demo up test combinations check style types arrows unit clients faults soak voices bench lock docs

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## The virtual environment in .venv, from requirements.lock (the others do this first)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'setup: $(TOO_OLD)' >&2; exit 1; }
	@exec $(PYTHON) scripts/setup.py

demo: setup ## The story: a chat that calls a tool in another process, killed in the middle, finished anyway
	@exec $(BIN)/fireworks-workers demo $(ARGS)

up: setup ## Every process of the Procfile on this machine, until Ctrl-C
	@exec $(BIN)/fireworks-workers up $(ARGS)

test: setup ## Every test, ten runs under each fault and a short soak among them, and the proof that each clause of tests/requirements.toml has one (ARGS="-k lease" for some)
	@exec $(BIN)/pytest -n $(PROCESSES) --dist loadfile $(ARGS)

combinations: setup ## The acceptance shelf on other parts (COMBINATIONS=rabbitmq+postgresql for one; servers: tests/README.md)
	@failed=0; for each in $(COMBINATIONS); do echo "== $$each"; \
	FW_TEST_COMBINATION=$$each $(BIN)/pytest -n $(PROCESSES) --dist loadfile tests/acceptance $(ARGS) || failed=1; done; exit $$failed

check: style types arrows unit ## Every gate that takes less than a minute: style, types, arrows, unit

style: setup ## Lint and format, nothing is changed (ruff)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: setup ## Types, strict (mypy)
	@exec $(BIN)/mypy

arrows: setup ## Who may import whom (import-linter)
	@exec $(BIN)/lint-imports

unit: setup ## The tests that need nothing but Python and less than a second, and the house rules
	@exec $(BIN)/pytest -q -n 2 --dist worksteal -m "not long" tests/unit tests/test_architecture.py tests/test_requirements.py $(ARGS)

clients: setup ## Software that we did not write: official clients on the emulator, our worker on llama.cpp, the web examples, a page in Chromium (installs all but that)
	@exec env FW_TEST_CLIENTS=1 $(BIN)/pytest -v -rP tests/clients tests/acceptance/test_examples.py tests/acceptance/test_talking_browser.py $(ARGS)

faults: setup ## 1 000 runs under each fault: kill, pause, drain, network, outages; half an hour (ARGS="--runs 50 --table faults.json -k reset")
	@$(if $(wildcard tests/faults/test_*.py),exec $(BIN)/pytest tests/faults --runs 1000 $(ARGS),$(call nothing,tests/faults))

soak: setup ## 200 live speech sessions for 10 minutes, a worker killed every 30 s: words exact, memory flat (ARGS="--sessions 20 --report soak")
	@exec $(BIN)/pytest tests/soak --sessions 200 --minutes 10 --kill-every 30 -o faulthandler_timeout=0 $(ARGS)

voices: setup ## A recorded voice through real recognisers while three workers die; whisper if its extra is installed
	@exec env FW_TEST_VOICES=1 $(BIN)/pytest -rPs -o faulthandler_timeout=0 tests/acceptance/test_voices.py $(ARGS)

bench: setup ## The measures: every benchmarks/p1_... one after the other (ARGS=--quick for a taste)
	@$(if $(MEASURES),$(each_measure),$(call nothing,benchmarks))

docs: setup ## docs/settings.md anew, from the settings objects
	@$(BIN)/python -m workers.cli.settings_table > docs/settings.md

lock: ## requirements.lock anew (needs uv; ARGS=--upgrade for the newest versions)
	@exec scripts/lock $(ARGS)

# Tests of whole processes mostly wait (three quarters of their time, measured): more of them than two cores have is quicker.
PROCESSES ?= 5
COMBINATIONS ?= redis+postgresql rabbitmq+sqlite rabbitmq+postgresql
MEASURES = $(basename $(notdir $(wildcard benchmarks/p[0-9]*.py)))
each_measure = set -e; for each in $(MEASURES); do echo "== $$each"; $(BIN)/python -m benchmarks.$$each $(ARGS); done
nothing = echo '$@: nothing in $(1)/ yet; nothing was run'
