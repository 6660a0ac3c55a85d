# Each target prepares what it needs. PYTHON=python3.12 chooses another Python.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench docs lock
.DEFAULT_GOAL := demo

demo:  ## the whole way on real data; UP=1 leaves the pages running
	@$(PYTHON) tools/prepare.py
	@$(BIN)/stead demo $(if $(UP),--up)

test:
	@$(PYTHON) tools/prepare.py test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check:
	@$(PYTHON) tools/prepare.py test
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench:
	@$(PYTHON) tools/prepare.py test
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/tracking.py
	$(BIN)/python benchmarks/honesty.py
	$(BIN)/python benchmarks/refreshes.py
	$(BIN)/python benchmarks/constants.py

docs:
	@$(PYTHON) tools/prepare.py test
	$(BIN)/python tools/docs.py

lock:  ## versions and hashes only, no index addresses
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml --extra postgres --group dev -c requirements.lock -o requirements-dev.lock
