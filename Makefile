# The project's commands. `make` alone explains them. STACK, PORT and HOST choose what `make up` runs and where.
.DEFAULT_GOAL := help
STACK ?= local
CONTROL := .run/venvs/control
ASSIST := $(CONTROL)/bin/assist
DEV := .venv
# Test processes: one more than two cores, as the engines' tests mostly wait. A file's tests share their servers, so a
# file stays in one process.
WORKERS ?= 3
export PORT HOST STACK ALLOW_UNPINNED

.PHONY: help up down status monitoring clean test test-long test-tools lint fmt bench lock docs release-check

help:  ## Say what each target does
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up:  ## Start the service on this machine and make a real completion (STACK=local, or tiny: no download; PORT=5000 HOST=127.0.0.1 ALLOW_UNPINNED=)
	@started=$$(date +%s.%N) && scripts/bootstrap $(CONTROL) requirements/control.txt && ASSIST_STARTED=$$started $(ASSIST) up

down:  ## Stop the service; what it has stored stays
	@if [ -x $(ASSIST) ]; then $(ASSIST) down; else echo "Nothing is installed here; nothing to stop."; fi

status:  ## Say what is up, what is not, why, and what to do
	@if [ -x $(ASSIST) ]; then $(ASSIST) doctor; else echo "Nothing is installed here. Start it with: make up"; exit 1; fi

monitoring:  ## Run Debian's Prometheus on the running service, on loopback; `make down` stops it too
	@if [ -x $(ASSIST) ]; then $(ASSIST) monitoring up; else echo "Nothing is installed here. Start it with: make up"; exit 1; fi

clean: down  ## Stop the service and remove everything that was made here, but for the models that you added to the catalogue
	@rm -rf .run $(DEV) .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache benchmarks/.work
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
	@[ ! -f catalogue/added.yaml ] || echo "catalogue/added.yaml stays: the models that you added (assist models remove)"

test: dev tests/npm/node_modules/.package-lock.json .run/venvs/checkov .run/venvs/policies  ## Run every test whose tools are here; a table says what the others lack (LEVELS="unit contract engine scenario")
	$(DEV)/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(LEVELS:%=--level=%)

test-long: dev  ## Run the tests that take minutes each
	$(DEV)/bin/pytest -n 1 -m long

test-tools:  ## Get what the tests need and this machine lacks (ARGS=--help)
	@python3 -m testing.tools $(ARGS)

lint: dev  ## Check style and types, without changing anything
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/mypy
	$(DEV)/bin/yamllint --strict .
	LC_ALL=C.UTF-8 PATH=$(CURDIR)/$(DEV)/bin:$$PATH ansible-lint --offline ansible

fmt: dev  ## Format the code and apply safe fixes
	$(DEV)/bin/ruff check --fix
	$(DEV)/bin/ruff format

bench: dev  ## Run the benchmarks; each prints a table and a ratio
	$(DEV)/bin/python -m benchmarks

docs: dev .run/venvs/docs  ## Generate the references and the dashboards, build the site into .run/site, check its links
	$(DEV)/bin/python scripts/references.py
	$(DEV)/bin/python scripts/dashboards.py
	.run/venvs/docs/bin/mkdocs build --strict --quiet

release-check: dev  ## Check that a release can be made of this clone: version, changelog, generated files, tag
	$(DEV)/bin/python scripts/release_check.py

lock: dev  ## Resolve pyproject.toml anew into requirements/*.txt, with hashes
	PATH=$(CURDIR)/$(DEV)/bin:$$PATH scripts/lock

# OpenAI's Node.js client, where npm is; without it that one test is skipped and says so.
tests/npm/node_modules/.package-lock.json: tests/npm/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix tests/npm --silent --no-audit --no-fund || \
		echo "npm could not install the Node.js client (see above); its test is skipped" >&2; fi

# Environments of their own: checkov pins much of what the rest needs newer; Pulumi runs the policy pack in its own.
.run/venvs/checkov .run/venvs/policies .run/venvs/docs: .run/venvs/%: requirements/%.txt
	@scripts/bootstrap $@ $<

.PHONY: dev
dev:
	@scripts/bootstrap $(DEV) requirements/dev.txt requirements/triton.txt
