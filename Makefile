# Headgate: everything a contributor runs. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
SERVERS := $(or $(PYTHON),python3) -m deploy.servers
BUF := node_modules/.bin/buf
PROTO_SOURCES := $(shell find protos -name '*.proto')
KAFKA_PORT ?= 9092
S3_PORT ?= 9000
# What `make proto-check` compares with: the last release, else the main branch, else nothing to compare with.
PROTO_BASE ?= $(shell git describe --tags --abbrev=0 2>/dev/null || git rev-parse -q --verify origin/main 2>/dev/null || true)
PYTEST_ARGS ?=
# How long `make chaos-long` breaks things, how often it kills at least, and where its choices are drawn from.
MINUTES ?= 30
KILLS ?= 200
SEED ?= 4711

.PHONY: help setup demo test test-unit check fmt lock install-deps proto-gen proto-lint proto-check proto-clean \
	kafka-up kafka-down s3-up s3-down docs bench bench-audit bench-full bench-rules bench-catalog chaos-long \
	compiled interpreted clean

##@ Start
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed $(VENV)/.protos ## Make .venv with everything in it, .venv/bin/headgate too

demo: setup ## Run the coding agent on the embedded log; needs Python alone
	@rm -rf .build/demo
	@$(BIN)/headgate run examples/coding_agent --policy examples/coding_agent/policies/generous.yaml --local .build/demo
	@echo "The log is kept: $(BIN)/headgate list --local .build/demo"

##@ Verify
test: setup ## Run every test, with real Kafka (Java, Maven), MinIO (Go) and PostgreSQL (apt); says what it skips
	@$(SERVERS) prepare
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-unit: setup ## Run the unit tests, without the long property tests (seconds)
	@$(BIN)/pytest tests/unit -n 3 --dist worksteal -m "not property" $(PYTEST_ARGS)

chaos-long: setup ## Break everything over three brokers for MINUTES (30) until KILLS (200); report in docs/results
	@$(SERVERS) prepare
	@$(BIN)/python -m tests.resilience.long --minutes $(MINUTES) --kills $(KILLS) --seed $(SEED)

check: setup proto-lint ## Lint, format, types, import floors, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## Format the code
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

##@ Protos
proto-gen: $(VENV)/.installed ## Make the Python classes of protos/
	$(BIN)/python hatch_build.py
	@touch $(VENV)/.protos

proto-lint: $(BUF) ## Lint protos/ with buf
	$(BUF) lint protos
	$(BUF) format --diff --exit-code protos

proto-check: $(BUF) ## Refuse changes of protos/ that break the wire, against PROTO_BASE (last tag, else origin/main)
	@if [ -z "$(PROTO_BASE)" ]; then \
		echo "proto-check: no tag and no origin/main yet, so nothing that could be broken"; \
	elif [ -z "$$(git ls-tree '$(PROTO_BASE)' protos/buf.yaml)" ]; then \
		echo "proto-check: $(PROTO_BASE) has no protos yet, so nothing that could be broken"; \
	else \
		$(BUF) breaking protos --against ".git#ref=$$(git rev-parse '$(PROTO_BASE)^{commit}'),subdir=protos" && \
		echo "proto-check: nothing breaks $(PROTO_BASE)"; \
	fi

proto-clean: ## Remove the generated classes
	find protos -name '*_pb2.py' -delete -o -name '*_pb2.pyi' -delete
	@rm -f $(VENV)/.protos

##@ Compile
compiled: setup ## Compile the fold in place: the same decisions in nearly half the time (needs a C compiler)
	@$(BIN)/python hatch_build.py --compile

interpreted: setup ## Go back to the fold as it is written, as after every change of it
	@$(BIN)/python hatch_build.py --no-compile

##@ Servers
kafka-up: ## Start Kafka on KAFKA_PORT (9092); its data live in .build/kafka
	@$(SERVERS) kafka-up --port $(KAFKA_PORT)

kafka-down: ## Stop it
	@$(SERVERS) kafka-down

s3-up: ## Start MinIO on S3_PORT (9000); its objects live in .build/minio
	@$(SERVERS) s3-up --port $(S3_PORT)

s3-down: ## Stop it
	@$(SERVERS) s3-down

##@ Maintain
docs: setup ## Write the pages that are made from the code
	@$(BIN)/python -m headgate_guardrails.fold.states > docs/states.tmp
	@mv docs/states.tmp docs/states.md

bench-rules: setup ## Measure what evaluating ten typical rules costs per event
	@$(BIN)/python -m benchmarks.rules $(BENCH_ARGS)

bench-catalog: setup ## Measure how fast the catalog projects into SQLite and PostgreSQL
	@$(SERVERS) prepare
	@$(BIN)/python -m benchmarks.catalog $(BENCH_ARGS)

bench: setup ## Measure the table of figures on a broker of its own (under five minutes)
	@$(SERVERS) prepare
	@$(BIN)/python -m benchmarks.bench $(BENCH_ARGS)

bench-audit: setup ## Measure what archives, verify and backtest cost, and their memory as the log grows
	@$(BIN)/python -m benchmarks.archive $(BENCH_ARGS)
	@$(BIN)/python -m benchmarks.audit $(BENCH_ARGS)

bench-full: setup ## The full set of figures, with its report in docs/results
	@$(SERVERS) prepare
	@$(BIN)/python -m benchmarks.bench --full $(BENCH_ARGS)

install-deps: setup $(BUF) ## Fetch everything ahead: Python packages, buf, Kafka's jars, MinIO
	@$(SERVERS) prepare

lock: setup ## Write the versions that .venv has into constraints.txt
	@{ echo "# Written by 'make lock'. Versions alone: where packages come from is the machine's affair."; \
	$(BIN)/pip freeze --all --exclude-editable --exclude pip | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' | grep -v '^headgate=='; } > constraints.tmp
	@mv constraints.tmp constraints.txt

clean: kafka-down s3-down proto-clean ## Remove what was built here (not the cache of Kafka and MinIO)
	find guardrails -name '*.so' -delete
	rm -rf $(VENV) .build .headgate build dist node_modules .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Files that the targets above stand on.
$(VENV)/.installed: pyproject.toml constraints.txt hatch_build.py
	@[ -n "$(PYTHON)" ] || { echo "Headgate needs Python 3.11 or newer (say which: make PYTHON=...)" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo "installing Headgate and what it needs into $(VENV) …"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,compile,llm,proof,catalog]'
	@touch $@ $(VENV)/.protos

$(VENV)/.protos: $(VENV)/.installed $(PROTO_SOURCES)
	@$(BIN)/python hatch_build.py > /dev/null
	@touch $@

$(BUF): package.json
	@command -v npm > /dev/null || { echo "buf comes from npm: install Node.js 20 or newer" >&2; exit 1; }
	@npm install --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@
