# `make tiny` and `make test` are all a user has to type; both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup tiny smoke gsm8k_small test test-slow lint bench clean
setup: $(VENV)/.done

# The stamp follows the two files that say what to install, so an edit to either installs again.
# torch comes first and alone: named with its version it is found wherever pip was told to look for it,
# and later packages that want any torch then keep this one.
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[evals,dev]"
	touch $@

tiny smoke: setup
	$(BIN)/foray run $@ --store $(or $(STORE),runs/$@)

gsm8k_small: setup
	$(BIN)/foray run $@ --store $(or $(STORE),runs/$@) --set data.root=$(or $(DATA),../shared/data)

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# TRL, in an environment of its own; vLLM only where VLLM names a python that has it.
.venv-bench/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	.venv-bench/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]" trl==1.16.0 datasets
	touch $@

bench: setup .venv-bench/.done
	$(BIN)/python benchmarks/bench.py --trl .venv-bench/bin/python $(if $(VLLM),--vllm $(VLLM)) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(CASES)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
