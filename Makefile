# The two commands a new user needs: `make demo` and `make test`. Both set everything up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EBB := $(BIN)/ebb
OUT ?= build/digits
# Tests that run at a time; each file stays in one process, since its tests share what they build.
JOBS ?= 2

.PHONY: demo runner test check format scoreboard bench vectors schemas lock clean

# What is installed is stamped, so that a changed lock is installed again and an unchanged one costs nothing.
$(VENV)/.core: locks/core.txt pyproject.toml tools/setup
	tools/setup "$(PYTHON)" $(VENV) core
$(VENV)/.dev: locks/dev.txt pyproject.toml tools/setup
	tools/setup "$(PYTHON)" $(VENV) dev

## Build pipeline/examples/digits.yaml end to end: train, add exits, lower, check, sign, verify, install, predict, report.
demo: $(VENV)/.core
	@$(EBB) build pipeline/examples/digits.yaml --output $(OUT) --install $(OUT)/store --try 8

## Build the C++ runner (devices/runner) into build/runner.
runner: $(VENV)/.dev
	@tools/runner $(BIN)

## All tests but the slow ones; where the C++ runner cannot be built, its tests are skipped and say so.
test: $(VENV)/.dev
	@tools/runner $(BIN) --optional
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

## Format, lint and types.
check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## Print every measured figure and rewrite the tables in README and docs from them.
scoreboard: $(VENV)/.dev
	$(BIN)/python pipeline/benchmarks/scoreboard.py

## Measure the figures of the whole road again; continues after a kill.
bench: $(VENV)/.dev
	$(BIN)/python pipeline/benchmarks/road.py

## Regenerate the shared test vectors and the JSON schemas; tests fail when they are stale.
vectors schemas: $(VENV)/.dev
	$(BIN)/python -m ebbtide.recipe.schema
	$(BIN)/python -m ebbtide.bundle.schema
	$(BIN)/python -m ebbtide.device.schema
	$(BIN)/python -m ebbtide.profiling.schema
	$(BIN)/python tests/vectors/generate.py

## Resolve the pins again (needs the package index; the locks name no index).
lock: $(VENV)/.dev
	tools/lock $(BIN)

clean:
	rm -rf build
