# Every command people run. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo local contract status doctor ingest load reconcile replay restore query dashboard bench test test-fast test-long drill test-unit test-rows test-rooms test-database test-package test-e2e test-servers lint format package audit clean

# The first of these that is Python 3.13, which the Lambda runs on.
PYTHON ?= $(shell for python in python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
INTERVAL ?= 600
NEW_EVENTS ?= 0
TESTS ?= not long
STAGE ?= prod
# REGION has no default here: that of the tools is the service's.
AT = --stage $(STAGE)$(if $(REGION), --region $(REGION))

# Commands run what make installed; `sls` uses the venv's python, too.
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/installed node_modules/installed ## install everything into .venv and node_modules
	@:

.venv/installed: requirements.txt constraints.txt layers/pandas-pg8000/requirements.txt .python-version
	@test -n "$(PYTHON)" || { echo "Python 3.13 is needed: pyenv install 3.13, or PYTHON=/path/to/it"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "Installing requirements.txt into .venv (a minute)"
	@.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

node_modules/installed: package.json package-lock.json
	@command -v npm >/dev/null || { echo "Node 20.19 or newer is needed, with npm"; exit 1; }
	@echo "Installing package.json into node_modules (half a minute)"
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@

demo: setup ## run the whole service on this machine, once: database, deployment, two ingestions
	@python -m local.demo

local: setup ## keep a local stage up; INTERVAL=seconds between ticks, NEW_EVENTS=orders before each
	@python -m local.serve --interval $(INTERVAL) --new-events $(NEW_EVENTS)

contract: setup ## write the contract of TABLE, of the local Totesys or of a deployed STAGE; FORCE=1 overwrites
	@test -n "$(TABLE)" || { echo "Which one? make contract TABLE=address"; exit 2; }
	python -m tools.contract '$(TABLE)' $(if $(filter-out file,$(origin STAGE)),$(AT)) $(if $(FORCE),--force)

status: setup ## print where each table of a deployed STAGE stands (prod); REGION=eu-west-1; JSON=1 for machines
	@python -m tools.status $(AT) $(if $(JSON),--json)

ingest: setup ## call the ingestion of a deployed STAGE (prod) now; TABLES=address,staff for some; JSON=1
	@python -m tools.invoke ingest $(AT) $(if $(TABLES),--tables '$(TABLES)') $(if $(JSON),--json)

load: setup ## load a large TABLE of a deployed STAGE (prod) by many WORKERS (8), or follow its load; JSON=1
	@test -n "$(TABLE)" || { echo "Which one? make load TABLE=payment"; exit 2; }
	@python -m tools.load $(AT) $(if $(WORKERS),--workers '$(WORKERS)') $(if $(JSON),--json) -- '$(TABLE)'

reconcile: setup ## compare source and bucket of a deployed STAGE (prod) now; TABLE, and ACCEPT_DELETES=3000; JSON=1
	@python -m tools.invoke reconcile $(AT) $(if $(TABLE),--table '$(TABLE)') $(if $(ACCEPT_DELETES),--accept-deletes '$(ACCEPT_DELETES)') $(if $(JSON),--json)

replay: setup ## land rows of TABLE again in a deployed STAGE (prod): ids above FROM, up to TO; JSON=1
	@test -n "$(TABLE)" && test -n "$(FROM)" && test -n "$(TO)" || { echo "Which rows? make replay TABLE=payment FROM=0 TO=500"; exit 2; }
	@python -m tools.invoke replay $(AT) $(if $(JSON),--json) -- '$(TABLE)' '$(FROM)' '$(TO)'

restore: setup ## land a lost object of TABLE again in a deployed STAGE (prod): KEY; JSON=1
	@test -n "$(TABLE)" && test -n "$(KEY)" || { echo "Which object? make restore TABLE=payment KEY=payment/1526-2024-11-11T15-03-24.jsonl"; exit 2; }
	@python -m tools.invoke restore $(AT) $(if $(JSON),--json) -- '$(TABLE)' '$(KEY)'

# Nothing in SQL is make's or the shell's to expand, such as the $ of a pattern.
unexport SQL
query: export QUERY = $(value SQL)
query: setup ## ask SQL="select ..." about what has landed in a deployed STAGE (prod), or at a prompt; JSON=1
	@python -m tools.query $(AT) $(if $(JSON),--json)$(if $(value SQL), -- "$$QUERY")

doctor: setup ## check everything that a STAGE needs, before it is deployed or after (prod); REGION; JSON=1
	@python -m tools.doctor $(AT) $(if $(JSON),--json)

dashboard: setup ## draw the dashboard of a simulated day, docs/dashboard.svg
	python -m local.cloudwatch.dashboard

bench: setup ## race against DuckDB and others, measure ticks, loads, memory and cost, 20 minutes; draws docs/benchmarks.svg and docs/loading.svg
	python -m benchmarks

# Each part often waits: for servers, for writers, for the deployment. The longest begins first.
PARTS := test-e2e test-rooms test-database test-rows test-package test-unit
test-unit: FOLDERS := tests/unit
ROWS_ROOMS := $(addprefix tests/integration/,contracts/ rows/)
test-rows: FOLDERS := $(ROWS_ROOMS)
DATABASE_ROOMS := $(addprefix tests/integration/,database/ local/ pages/ tools/)
test-database: FOLDERS := $(DATABASE_ROOMS)
test-rooms: FOLDERS := $(filter-out $(ROWS_ROOMS) $(DATABASE_ROOMS),$(wildcard tests/integration/*/))
test-package: FOLDERS := tests/e2e/package
test-e2e: FOLDERS := $(wildcard tests/e2e/*.py) tests/drills
IN_PARALLEL := --no-print-directory --output-sync=target
SETUP_IN_PARALLEL := $(MAKE) --no-print-directory -j2 setup

test: ## lint and every test but the long ones
	@$(SETUP_IN_PARALLEL)
	@$(MAKE) $(IN_PARALLEL) -j4 $(PARTS) lint

test-fast: ## the unit and integration tests that take a minute, for while you work
	@$(SETUP_IN_PARALLEL)
	@$(MAKE) $(IN_PARALLEL) -j4 test-rows test-rooms test-database test-unit TESTS="not long and not thorough"

test-long: ## the tests that take minutes; a part of them: make test-rows TESTS=long
	@$(SETUP_IN_PARALLEL)
	@$(MAKE) $(IN_PARALLEL) -j2 -k $(PARTS) TESTS=long

OLDER := $(addprefix test-postgres-,13 14 15 16 17)
test-servers: ## the tests of rows, changes, values and reconciliation on PostgreSQL 13 to 17, 20 minutes
	@$(MAKE) $(IN_PARALLEL) -j2 -k $(OLDER)

tests/servers/node_modules/installed: tests/servers/package.json tests/servers/package-lock.json
	@npm ci --prefix tests/servers --ignore-scripts --no-audit --no-fund --loglevel=error
	@for server in tests/servers/node_modules/*/; do \
		(cd $$server && node scripts/hydrate-symlinks.js) || exit 1; done
	@touch $@

$(OLDER): test-postgres-%: setup tests/servers/node_modules/installed
	POSTGRES_INSTALLATION=$$(echo $(CURDIR)/tests/servers/node_modules/*-$*/native) \
		python -m pytest -m "not long" $(addprefix tests/integration/,rows changes database reconciliation)

# Not every part has long tests; pytest says so by 5.
$(PARTS): setup
	python -m pytest -m "$(TESTS)" $(FOLDERS) || test $$? -eq 5 -a '$(TESTS)' = long

drill: setup ## inject every fault into a local stage and print which alarms fire
	python -m pytest tests/drills

lint: setup ## ruff and mypy
	ruff check
	ruff format --check
	mypy

format: setup ## let ruff fix what it can
	ruff check --fix
	ruff format

package: setup ## build what `sls deploy` would upload, into .serverless
	python -m local.package --stage $(STAGE)

.venv-audit/installed: requirements-audit.txt .python-version
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	@touch $@

# All three run, whatever the first one finds. If the advisories can't be fetched, that is a failure.
audit: package .venv-audit/installed ## look for known vulnerabilities in the template, the Python and the Node packages
	@failed=; \
	.venv-audit/bin/checkov --config-file .checkov.yml -f .serverless/cloudformation-template-update-stack.json || failed=1; \
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps -r layers/pandas-pg8000/requirements.txt -r constraints.txt || failed=1; \
	npm audit || failed=1; \
	test -z "$$failed"

clean: ## remove everything that make has built
	rm -rf .venv .venv-audit node_modules tests/servers/node_modules .serverless .serverless-cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
