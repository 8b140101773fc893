# make demo: a three-server Apache farm on this machine loses a server, and you watch the traffic move.
# make test: all tests. Both prepare what they need first (as root, on Debian 12).
#   JOBS=1           one test after the other; tests mostly wait, so more run at a time than there are processors
#   SAFEKIT_EXAMPLES=5   property tests try five times as many examples (from the environment)
# make filter: builds the filter that ships anew; after each change of plugins/farm/filter.c or filter.h.

BIN := .venv/bin
JOBS ?= 3
# A file's tests stay together, because they share servers; the long ones stand first, and the short ones fill the end.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 10

.PHONY: setup demo demo-mirror test unit lint filter bench clean

setup:
	@sh .ci/setup.sh

demo: setup
	@$(BIN)/safekit-py lab demo

demo-mirror: setup
	@$(BIN)/safekit-py lab demo-mirror

test: lint
	@$(PYTEST)

unit: setup
	@$(PYTEST) tests/unit

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

filter: setup
	@$(BIN)/python -m safekit_py.plugins.farm.compiler plugins/farm/filter-$$(uname -m).json

bench: setup
	@for each in bench/*.py; do echo "== $$each"; $(BIN)/python $$each || exit 1; done

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
