# Copyright (c) 2026 The Eternia maintainers
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# `make backup` is where to begin; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COLLECTION := collections/ansible_collections/eternia/backup

# ETERNIA_S3_PORT=... and ETERNIA_APP_PORT=... move the embedded services, which remember them; they begin at 8333 and 8000.

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

$(VENV)/run: requirements/run.txt
	@echo 'Installing what a backup needs into $(VENV) (once, about half a minute) ...'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/test: $(VENV)/run requirements/test.txt
	@echo 'Installing what the tests need into $(VENV) (once, about a minute) ...'
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/test.txt
	@touch $@

.PHONY: install backup up down env
install: $(VENV)/run ## only what the playbooks need, on a machine that runs them for other hosts

backup: up ## start the embedded services and take a backup that is proven
	@eval "$$($(BIN)/python scripts/dev_services.py env)" && $(BIN)/ansible-playbook playbooks/backup.yml

up: $(VENV)/run ## start the embedded services: the object store and the sample application
	@$(BIN)/python scripts/dev_services.py up

down: $(VENV)/run ## stop them
	@$(BIN)/python scripts/dev_services.py down

env: $(VENV)/run ## the shell lines that point any S3 tool at the embedded store
	@$(BIN)/python scripts/dev_services.py env

.PHONY: test test-playbooks test-hosts test-pythons lint sanity build
# What hangs ends the run (pyproject.toml), instead of being begun again by another worker.
PYTEST := $(BIN)/pytest -n 4 --dist loadfile --max-worker-restart 0

test: lint ## linters, the tests, the modules against a real S3 server, and the Molecule scenario
	@$(PYTEST) --ignore tests/playbooks
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test

test-playbooks: $(VENV)/test ## each playbook and role by real ansible-playbook runs, on this machine
	@$(PYTEST) tests/playbooks

test-hosts: $(VENV)/test ## a disaster, and jobs by cron and systemd, on real hosts that are booted here; as root, and it says what else is missing
	@$(BIN)/python scripts/test_hosts.py check
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s disaster_recovery
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test -s schedule

test-pythons: $(VENV)/test ## the tests on the oldest and the newest Python that are installed
	@$(BIN)/python scripts/test_pythons.py

lint: $(VENV)/test ## the linters alone: ruff, mypy, yamllint, ansible-lint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/yamllint .
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint

sanity: $(VENV)/test ## all of ansible-test sanity, with no ignore files
	@$(BIN)/python scripts/sanity.py

build: $(VENV)/test ## build the collection, install the artefact, and prove it
	@scripts/build.sh

.PHONY: bench reliability
bench: $(VENV)/run ## measure the figures of docs/benchmarks.md (BENCH_MIB, BENCH_LARGE_MIB, BENCH_RUNS, BENCH_DIR, BENCH_HUGE_MIB, BENCH_OTHER_DIR, BENCH_ONLY)
	@PYTHONPATH=collections $(BIN)/python -m benchmarks.run $(if $(BENCH_ONLY),--only $(BENCH_ONLY))

reliability: $(VENV)/run ## write docs/reliability.md of what make faults, make fuzz and make soak found last
	@$(BIN)/python -m benchmarks.reliability

.PHONY: fuzz
$(VENV)/fuzz: $(VENV)/test requirements/fuzz.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/fuzz.txt
	@touch $@

fuzz: $(VENV)/fuzz ## 100,000 random histories of retention, and every document that is read, bent (FUZZ_HISTORIES, FUZZ_DISK, FUZZ_SECONDS, FUZZ_ONLY, FUZZ_SEED)
	@PYTHONPATH=collections $(BIN)/python -m fuzz

.PHONY: soak
soak: $(VENV)/run ## two hours of backups, prunes and restores beside busy writers, every backup compared row by row (SOAK_SECONDS, SOAK_DIR)
	@PYTHONPATH=collections $(BIN)/python -m soak

.PHONY: faults
faults: $(VENV)/test ## let calls and answers of the store fail (FAULTS=short, full or every, FAULTS_ONLY="backup calls" or mutations, FAULTS_SEED)
	@PYTHONPATH=collections $(BIN)/python -m faults

.PHONY: pins
pins: ## look for newer versions of what requirements/ pins
	@$(PYTHON) -m venv build/pins && build/pins/bin/pip install --quiet uv
	@for triple in $(foreach name,run:3.11 test:3.11 bench:3.11 fuzz:3.11 target:3.9,$(name):requirements) agent:3.9:$(COLLECTION)/roles/agent/files; do \
	  IFS=: read -r name python folder <<< "$$triple"; \
	  out=$$folder/$$([ $$name = agent ] && echo requirements || echo $$name).txt; \
	  build/pins/bin/uv pip compile --quiet --universal --upgrade --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --python-version $$python requirements/$$name.in -o $$out && \
	  sed -i '1i # Made from '$$name'.in by `make pins`: names and versions only.' $$out; done
