# Each target prepares what it needs. PYTHON=python3.12 chooses another Python.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-torch ray check bench docs lock
.DEFAULT_GOAL := demo

demo:  ## the whole way on real data; UP=1 leaves the pages running
	@$(PYTHON) tools/prepare.py
	@$(BIN)/stead demo $(if $(UP),--up)

test:
	@$(PYTHON) tools/prepare.py test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# pip takes the newest build that its index has. Where that is one for GPUs, which is large and not needed here:
# make test-torch TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
test-torch:  ## models of PyTorch, in .venv-torch
	@$(PYTHON) tools/prepare.py test
	@test -f .venv-torch/.ready || ( \
		$(BIN)/python -m venv .venv-torch && \
		.venv-torch/bin/python -m pip install --quiet $(TORCH) && \
		$(BIN)/uv pip install --quiet --python .venv-torch/bin/python --require-hashes -r requirements-dev.lock && \
		$(BIN)/uv pip install --quiet --python .venv-torch/bin/python --no-deps --editable . && \
		touch .venv-torch/.ready )
	@OMP_NUM_THREADS=1 .venv-torch/bin/python -m pytest tests/pytorch $(ARGS)

ray:  ## Ray for the tests that train on a cluster, in .venv-ray
	@$(PYTHON) tools/prepare.py test
	@test -f .venv-ray/.ready || ( \
		$(PYTHON) -m venv --without-pip .venv-ray && \
		$(BIN)/uv pip install --quiet --python .venv-ray/bin/python --require-hashes -r requirements-ray.lock && \
		touch .venv-ray/.ready )

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
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/honesty.py
	$(BIN)/python benchmarks/refreshes.py
	$(BIN)/python benchmarks/constants.py

docs:
	@$(PYTHON) tools/prepare.py test
	$(BIN)/python tools/docs.py

lock:  ## versions and hashes only, no index addresses
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml --extra postgres --extra delta --group dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --group ray -o requirements-ray.lock
