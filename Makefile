# Two commands matter to a student: `make tour` and `make test`.
#
# Paths are relative and programs are started as `.venv/bin/python -m NAME`, so that the
# folder may have any name: the scripts in .venv/bin begin with `#!` and an absolute path,
# which a space in the folder's name breaks.

VENV := .venv
PY := $(VENV)/bin/python

# The first interpreter that is new enough; `make tour PYTHON=python3.13` chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# What is installed is recorded by empty files .venv/ready-*, written only after pip has succeeded.
# Their names carry a checksum of pyproject.toml, so a fresh stamp means that there is nothing to do,
# with or without a network.
KEY := $(shell cksum < pyproject.toml | cut -d ' ' -f 1)
BASE := $(VENV)/ready-$(KEY)
ALIVE := import sys, pip; sys.exit(sys.version_info < (3, 11))

# An environment whose interpreter is gone (the system's Python was upgraded) is not ready.
ifneq (yes,$(shell $(PY) -c '$(ALIVE)' 2>/dev/null && echo yes))
$(shell rm -f $(VENV)/ready-*)
endif

# One worker per core; each worker's BLAS then gets one thread, or they fight for the cores.
PYTEST := $(PY) -m pytest
PARALLEL := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PYTEST) \
	-n auto --maxprocesses 8 --dist worksteal
QUICK := not slow and not parity

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help tour test lint format types parity kernels lessons slow no-numba minimal book bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

# ------------------------------------------------------------------ for students

tour: $(BASE) ## install, check gradients, train a small GPT on real text, draw its attention
	@$(PY) -m scratchlm tour

test: $(VENV)/ready-test-$(KEY) ## install, run the test suite (minutes)
	@$(PARALLEL) -m "$(QUICK)"

# ------------------------------------------------------------------ for developers

lint: $(VENV)/ready-dev-$(KEY) ## ruff: style and layout
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: $(VENV)/ready-dev-$(KEY) ## ruff: mend what can be mended
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

types: $(VENV)/ready-dev-$(KEY) ## mypy
	@$(PY) -m mypy

parity: $(VENV)/ready-parity-$(KEY) ## compare with PyTorch, transformers, sacrebleu and others
	@$(PY) -c 'import autograd, jieba, rouge_score, sacrebleu, seqeval, sklearn, torch, transformers'
	@$(PARALLEL) -m parity

# Skips visibly, with the reason, where there is no g++, no NVRTC or no GPU.
kernels: $(VENV)/ready-kernels-$(KEY) ## the CUDA kernels without a GPU: values, races, bounds, registers
	@$(PARALLEL) -m "not parity" tests/kernels/test_emulator.py tests/kernels/test_cuda*.py

lessons: $(VENV)/ready-test-$(KEY) ## run every page, stub, solution and mistake of the lessons
	@$(PARALLEL) -m "not parity" tests/lessons

slow: $(VENV)/ready-test-$(KEY) ## the long tests, those of the lessons and of `make kernels` aside
	@$(PARALLEL) -m "slow and not parity" --ignore tests/lessons --ignore tests/kernels/test_emulator.py \
	  --ignore tests/kernels/test_cuda.py --ignore tests/kernels/test_cuda_gates.py

no-numba: $(VENV)/ready-test-$(KEY) ## the test suite as on a machine that has no Numba
	@$(PARALLEL) -m "$(QUICK)" -p tests.plugins.block_imports --block numba

# The wheel itself, beside the oldest NumPy that is promised and nothing optional. `-P` keeps the
# checkout off the path, so that what is tested is what was packed.
minimal: $(BASE) ## the mathematics with NumPy and array-api-compat alone, from the built wheel
	@$(PY) -m venv --clear .venv-minimal
	@rm -rf build/wheel
	@$(PY) -m pip wheel --no-deps --wheel-dir build/wheel .
	@.venv-minimal/bin/python -m pip install --upgrade 'pip>=25.1'
	@.venv-minimal/bin/python -m pip install --group minimal
	@.venv-minimal/bin/python -m pip install --no-deps build/wheel/scratchlm-*.whl
	@.venv-minimal/bin/python -P -m pytest -m "$(QUICK)" $(MINIMAL)

MINIMAL := tests/test_tensor.py tests/test_gradcheck.py tests/test_backend.py \
	tests/test_registry.py tests/ops tests/nn tests/optim

book: $(VENV)/ready-book-$(KEY) ## the lessons as HTML, in lessons/book/_build/html
	@$(PY) -m sphinx -W --keep-going -b html lessons/book lessons/book/_build/html

bench: $(VENV)/ready-parity-$(KEY) ## time scratchlm beside HIPS autograd and PyTorch
	@$(PY) -m benchmarks

clean: ## remove the environments and everything that was built
	rm -rf lessons/book/pages lessons/book/extra lessons/book/glossary.md lessons/book/formulas.md
	rm -rf $(VENV) .venv-minimal build dist lessons/book/_build .pytest_cache .mypy_cache .ruff_cache

# ------------------------------------------------------------------ the environment

OFFLINE = { echo; \
	echo "scratchlm: the packages were not installed (pip's own words are above)."; \
	echo "  Why:  the first run downloads about 150 MB and needs a network and a package index;"; \
	echo "        or no package fits this Python, $$($(PY) -V 2>&1)."; \
	echo "  Mend: run the same command again, it goes on from here; behind a slow line, set pip's"; \
	echo "        index-url to a mirror near you; for another Python: make PYTHON=python3.12 clean tour"; \
	exit 1; }

# The editable install's path is rewritten to a relative one. Then the folder can be renamed, and
# Python before 3.13 starts where the locale is GBK and the path Chinese: it reads such a file in the
# locale's encoding, pip writes it in UTF-8.
$(BASE):
	@rm -f $(VENV)/ready-*
	@$(PY) -c '$(ALIVE)' 2>/dev/null || { \
	  python="$(PYTHON)"; \
	  test -n "$$python" && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "scratchlm: no Python 3.11 or newer was found." \
      "($${python:-python3} says: $$("$${python:-python3}" -V 2>/dev/null || echo nothing))"; \
    echo "  Why:  the library uses what came with 3.11; NumPy and Numba have left older ones too."; \
	    echo "  Mend: install a newer Python beside it, then say: make tour PYTHON=python3.12"; \
	    exit 1; }; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "scratchlm: $$python can't make an environment: its venv or ensurepip module is missing."; \
	    echo "  Why:  Debian and Ubuntu put them into a package of their own."; \
	    echo "  Mend: sudo apt install python3-venv, then run the same command again"; \
	    exit 1; }; \
	  echo "scratchlm: making an environment in $(VENV) with $$("$$python" -V)"; \
	  "$$python" -m venv --clear $(VENV); }
	@echo "scratchlm: installing into $(VENV) (only this first time)"
	@$(PY) -m pip install --editable . || $(OFFLINE)
	@for pth in $(VENV)/lib/python3*/site-packages/_scratchlm.pth; do \
	  printf '../../../..\n../../../../kernels\n' >"$$pth" || exit 1; done
	@touch $@

# A dependency group of pyproject.toml; pip understands them since 25.1.
$(VENV)/ready-%-$(KEY): $(BASE)
	@rm -f $(VENV)/ready-$*-*
	@echo "scratchlm: installing what '$*' needs into $(VENV)"
	@{ $(PY) -m pip install --upgrade 'pip>=25.1' && $(PY) -m pip install --group $*; } || $(OFFLINE)
	@touch $@
