# Needs make and Python 3.11 or newer; everything else goes into .venv. Without make: see README.md.

PYTHON ?= $(shell command -v python3.11 || echo python3)
CONFIG ?= serve_config.yaml
PICTURE ?= examples/coffee.jpg

BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH_INSTALLED := .venv/.installed-bench

# A network, processes and mounts of its own, which end with the command.
OWN_NETWORK := unshare $(if $(filter-out 0,$(shell id -u)),-Ur) -nmpf --mount-proc --kill-child

# What PyPI has for Linux; elsewhere it has none with CUDA.
SAY_CUDA = test -d .venv || test "$$(uname)" != Linux || command -v nvidia-smi >/dev/null || printf '%s\n' \
	"There is no NVIDIA driver, and 4.5 of the 6 GB are CUDA. For 2.2 GB without press Ctrl-C now, and say" \
	"make $(or $(MAKECMDGOALS),install) TORCH_INDEX_URL=…, the package index that PyTorch's installation page names for CPU."

.DEFAULT_GOAL := help
.PHONY: help install run demo doctor test units services cluster lint frontend bench soak audit check format clean

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s%s\n", $$1, $$2}' Makefile

install: $(INSTALLED) ## set everything up in .venv; done once

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: install it, or name it with PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv; the first time this fetches PyTorch and Ray, which takes minutes."
	@$(if $(TORCH_INDEX_URL),,$(SAY_CUDA))
	@$(PYTHON) -m venv .venv
	@$(if $(TORCH_INDEX_URL),$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-deps --index-url $(TORCH_INDEX_URL) torch)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: install ## start the service; Ctrl-C stops it
	@exec $(BIN)/image-analyzer serve $(CONFIG)

demo: install ## send a photograph to the running service
	@exec $(BIN)/image-analyzer analyze $(PICTURE)

doctor: install ## check this machine, and say what mends each fault
	@exec $(BIN)/image-analyzer doctor $(CONFIG)

test: services units cluster ## run all tests; those with several hosts where this user may make them

units: install
	@$(BIN)/python -m pytest -m "not serve and not many_nodes"

services: install
	@$(BIN)/python -m pytest -m serve

cluster: install | units services
	@if $(OWN_NETWORK) true 2>/dev/null; then $(OWN_NETWORK) $(BIN)/python -m pytest tests/cluster; \
	else echo "Not run: tests/cluster, which needs iproute2, util-linux and the right to make namespaces."; fi

lint: install ## check style and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

frontend: install ## build the page at / anew from frontend/; needs Node
	@$(BIN)/python -m tests.support.openapi_document
	@cd frontend && npm ci && npm run types && npm run build

bench: $(BENCH_INSTALLED) ## measure us, the limit and the peers, and us at rest; QUICK=1: under 5 minutes
	@$(BIN)/python -m benchmarks.bench $(if $(QUICK),--quick)

$(BENCH_INSTALLED): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

soak: $(INSTALLED) ## mixed load for MINUTES=20: every outcome judged, memory watched
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),20)

audit: $(INSTALLED) ## look the pinned packages up among known vulnerabilities; needs a network
	@$(PYTHON) -m venv .venv/audit && .venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	@.venv/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

check: test lint ## test, then lint: what CI runs

format: install ## put the Python code into its one form
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean: ## remove .venv and all caches
	@rm -rf .venv .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info frontend/node_modules frontend/dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
