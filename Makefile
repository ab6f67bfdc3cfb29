# make demo, make test: each sets everything up the first time, and starts at once from then on.
#   PYTHON=python3.12   the interpreter to make .venv with (3.10 or newer; after a `make clean`)
#   WHEELS=URL          take prebuilt torch-scatter and torch-cluster from there, not compile them:
#                       a page or a folder of wheels that fit the pinned PyTorch, as PyG's own
VENV := .venv
READY := $(VENV)/.ready

export PYTHON WHEELS

.PHONY: help interpreter setup demo test fuzz lint clean distclean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       set up, then draw what a foveated network sees, into demo/'
	@echo 'make test       set up, then run linters, type checker and tests'
	@echo 'make fuzz       20,000 trials of strange input, half an hour; FOVIGRAPH_FUZZ=N for another number'
	@echo 'make lint       the linters and the type checker only'
	@echo 'make setup      the set-up only'
	@echo 'make clean      remove the environment and what was made; the compiled wheels are kept'
	@echo 'make distclean  remove those too'
	@echo 'Options: PYTHON=python3.12   WHEELS=URL (prebuilt torch-scatter and torch-cluster)'

setup: $(READY)

# An interpreter that is named, and another one's .venv: whoever named it wants to know.
interpreter:
	@[ -z '$(PYTHON)' ] || bash scripts/setup.sh --check $(VENV)

$(READY): pyproject.toml constraints.txt scripts/setup.sh | interpreter
	@bash scripts/setup.sh $(VENV)
	@touch $@

demo: $(READY)
	$(VENV)/bin/fovigraph demo --out demo

# A worker for each core, which takes whole files, so that their fixtures are made once.
test: lint
	$(VENV)/bin/pytest -q -n auto --dist loadfile

fuzz: $(READY)
	FOVIGRAPH_FUZZ=$${FOVIGRAPH_FUZZ:-20000} $(VENV)/bin/pytest -q tests/fuzz

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) demo dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf .setup
