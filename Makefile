# `make` lists the targets. `make demo` is all that a fresh clone needs.
#
# On a machine with an NVIDIA GPU: `make venv GPU=1` resolves the ordinary vllm and torch instead of installing
# the CPU lock. The choice then holds for every target, until `make clean`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help venv models demo test test-fast lint types check lock clean

# Packages are installed without bytecode (half of the time) and compiled when first imported.
unexport PYTHONDONTWRITEBYTECODE

# Another interpreter: make venv PYTHON=/path/to/python3.12
PYTHON ?=
# More for pytest: make test ARGS='-x -k filter'
ARGS ?=
GPU ?= $(if $(wildcard .venv/.deps-gpu),1)
KIND := $(if $(filter-out 0,$(GPU)),gpu,cpu)
OTHER := $(if $(filter cpu,$(KIND)),gpu,cpu)

PY := .venv/bin/python
PIP := $(PY) -m pip --no-input --disable-pip-version-check
# -qq: errors alone. pip's own version comes from the lock, and goes in first, for it is twice as fast as the
# one that Python 3.11 brings.
INSTALL := $(PIP) install -qq --no-compile
PIP_PIN := $(shell grep -o '^pip==[^ ]*' locks/cpu.txt)
# Imports what a run will, so that a broken environment shows here, and the first run finds its bytecode.
SMOKE := from vllm import LLM; import vllm.model_executor.models.llama, vllm.v1.worker.$(KIND)_worker, datasets, gguf, onnxruntime, peft, sklearn.cluster, sentence_transformers, torch; \
	from transformers import AutoModelForCausalLM, LlamaForCausalLM; from trl import SFTTrainer; import pipeline.cli

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

venv: .venv/.ready-$(KIND) ## install everything into .venv: 2 minutes, 4 GB (with an NVIDIA GPU: GPU=1)

# One make at a time; one that waited finds the work done.
define ALONE
exec 9<.venv.lock; flock 9
stale=; for source in $^; do [ $@ -nt $$source ] || stale=1; done
[ "$$stale" ] || exit 0
start=$$SECONDS
endef

# The stamps: .deps-* when the packages are in, .ready-* when the project is too. A failure leaves none.
.venv/.deps-cpu: locks/cpu.txt
.venv/.deps-gpu: pyproject.toml
.venv/.deps-%: | .venv.lock
	@$(ALONE)
	python="$(PYTHON)"
	[ "$$python" ] || { python3.11 -c '' 2>/dev/null && python=python3.11 || python=python3; }
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || {
		echo "Python 3.11 to 3.13 is needed, $$python is $$("$$python" -V 2>&1): make venv PYTHON=/path/to/python3.11" >&2
		exit 1
	}
	# Anew for the other kind or another interpreter: both kinds hold a module `vllm`.
	if [ -e .venv/.deps-$(OTHER) ] || ! $(PY) -m pip --version >/dev/null 2>&1 \
		|| { [ "$(PYTHON)" ] && [ "$$($(PY) -V)" != "$$("$$python" -V)" ]; }; then rm -rf .venv; fi
	rm -f .venv/.deps-* .venv/.ready-*
	echo "Installing into .venv ($*, $$("$$python" -V)): a few minutes, without further word"
	[ -d .venv ] || "$$python" -m venv .venv
	$(INSTALL) $(PIP_PIN)
	if [ $* = gpu ]; then
		$(INSTALL) -e '.[all,dev]'
	else
		$(INSTALL) --no-deps -r locks/cpu.txt
		$(PY) -c 'import sys, importlib.metadata as m; sys.exit("+cpu" not in m.version("torch"))' || {
			echo "pip found torch's CUDA build: make it see PyTorch's CPU index (locks/cpu.txt), then make clean venv" >&2
			exit 1
		}
	fi
	echo "Packages installed after $$((SECONDS - start)) s"
	touch $@

.venv/.ready-%: .venv/.deps-% pyproject.toml
	@$(ALONE)
	$(INSTALL) --no-deps --no-build-isolation -e .
	VLLM_LOGGING_LEVEL=ERROR $(PY) -W ignore -c '$(SMOKE)' >.venv/smoke.log 2>&1 || { cat .venv/smoke.log >&2; exit 1; }
	echo "Project installed and imports checked after $$((SECONDS - start)) s"
	touch $@

.venv.lock:
	@touch $@

models: venv ## fetch the demo models into data/models
	@$(PY) scripts/models.py

demo: models ## generate, filter, curate, train and evaluate on a small scale, and write a report of it
	@.venv/bin/pipeline run examples/stories/plan.yaml
	echo "All of it on one page, for a browser: $$(.venv/bin/pipeline report examples/stories/plan.yaml -q)"

test: models ## every test, those with vLLM and the demo models too
	@$(PY) -m pytest $(ARGS)

test-fast: venv ## unit tests alone
	@$(PY) -m pytest -m 'not slow and not e2e' $(ARGS)

lint: venv ## ruff
	@.venv/bin/ruff check .

types: venv ## mypy
	@.venv/bin/mypy

check: lint types ## lint and types

# pip resolves and installs nothing; the scratch environment is there for the pip.
lock: ## resolve the newest packages into locks/cpu.txt
	@scratch=$$(mktemp -d)
	trap 'rm -rf "$$scratch"' EXIT
	python3.11 -m venv "$$scratch/venv"
	"$$scratch/venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check -U pip
	"$$scratch/venv/bin/python" scripts/lock.py >"$$scratch/cpu.txt"
	cp "$$scratch/cpu.txt" locks/cpu.txt

clean: ## remove the environment and caches; models and runs stay
	@rm -rf .venv .venv.lock build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
