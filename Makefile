# Targets that people and CI share. `make demo` and `make test` need nothing but Python and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test test-model test-platform test-e2e faults bench lint type format clean

setup: $(VENV)/.installed

# Exact tested versions; the constraints name no address, so any index that has them will do.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cluster,dev]'
	touch $@

# Drawn again where it is missing or cannot be opened, for instance of an older format.
demo: setup
	$(BIN)/python -c 'from mixnmatch.data.store import open_dataset; open_dataset("data/demo")' 2>/dev/null || \
	    $(BIN)/mixnmatch data synthesize data/demo --count 2000 --seed 0 --overwrite
	$(BIN)/python experiments/sweep_demo.py
	$(BIN)/platform promote --experiment demo --metric disentanglement_accuracy --model mixnmatch-demo
	$(BIN)/mixnmatch sheet models:/mixnmatch-demo@champion data/demo --out runs/demo/sheet.png
	$(BIN)/platform champion mixnmatch-demo

# `make -j2 --output-sync test` does two at once, as CI does.
test: test-model test-platform test-e2e

test-model: setup
	$(BIN)/pytest tests/unit tests/parity

test-platform: setup
	$(BIN)/pytest tests/integration -m "not slow" --durations=20

test-e2e: setup
	$(BIN)/pytest tests/faults tests/e2e -m "not slow"

# What is killed, and what that costs: the whole table.
faults: setup
	$(BIN)/pytest tests/faults --away 60

# On a quiet machine: a quarter of an hour at the published sizes.
bench: setup
	$(BIN)/python tests/benchmarks/step.py
	$(BIN)/python tests/benchmarks/step.py --ablate
	$(BIN)/python tests/benchmarks/loader.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
