# `make setup` makes .venv; every other target does that first.
# To use an interpreter that already has Detectron2: make test PYTHON=python
PYTHON ?= .venv/bin/python
BASE_PYTHON ?= python3
SEED ?= 0
DEVICE ?= cpu

.PHONY: setup demo test lint docs bench fuzz

setup:
ifeq ($(PYTHON),.venv/bin/python)
	@command -v $(BASE_PYTHON) >/dev/null || { echo "make setup: there is no $(BASE_PYTHON):" \
		"install Python 3.11 or name one with BASE_PYTHON=..." >&2; exit 1; }
	@$(BASE_PYTHON) tools/setup_environment.py
else
	@$(PYTHON) -c "import sys, importlib.util as u; sys.exit(u.find_spec('clq') is None)" 2>&- || \
		{ echo "make setup: $(PYTHON) is missing or has no clq: install CLQ into it with" \
		"\`$(PYTHON) -m pip install -e .[dev]\`" >&2; exit 1; }
endif

demo: setup
	@$(PYTHON) tools/demo.py --seed $(SEED)

# A process for each core, up to 4; the tests of a file stay together, for what they share.
test: setup
	$(PYTHON) -m pytest tests -n auto --maxprocesses 4 --dist loadscope

lint: setup
	$(PYTHON) -m black --check .
	$(PYTHON) -m isort --check .
	$(PYTHON) -m flake8
	$(PYTHON) -m mypy

# -E: the API reference follows docstrings, which Sphinx does not watch.
docs: setup
	$(PYTHON) -m sphinx -W --keep-going -E -q -c docs . build/html
	@echo "build/html/docs/index.html"

# make bench DEVICE=cuda measures a GPU.
bench: setup
ifeq ($(DEVICE),cpu)
	@$(PYTHON) -W ignore::FutureWarning benchmarks/speed.py
else
	@$(PYTHON) -W ignore::FutureWarning benchmarks/speed_cuda.py --device $(DEVICE)
endif

# Mutated files for every reader: make fuzz FUZZ_SECONDS=600; an hour by default.
FUZZ_SECONDS ?= 3600
fuzz: setup
	@$(PYTHON) benchmarks/fuzz.py --seconds $(FUZZ_SECONDS)
