# make demo: a three-server Apache farm on this machine loses a server, and you watch the traffic move.
# make test: all tests. Both prepare what they need first (as root, on Debian 12).

BIN := .venv/bin

.PHONY: setup demo test unit lint bench clean

setup:
	@sh .ci/setup.sh

demo: setup
	@$(BIN)/safekit-py lab demo

test: lint
	@$(BIN)/python -m pytest

unit: setup
	@$(BIN)/python -m pytest tests/unit

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup
	@for each in bench/*.py; do echo "== $$each"; $(BIN)/python $$each || exit 1; done

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
