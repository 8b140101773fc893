# make demo: a three-server Apache farm on this machine loses a server, and you watch the traffic move.
# make test: all tests. Both prepare what they need first (as root, on Debian 12).
#   JOBS=1           one test after the other; tests mostly wait, so more run at a time than there are processors
#   SAFEKIT_EXAMPLES=5   property tests try five times as many examples (from the environment)
# make deb: the Debian package, in dist/. make test-deb: tests it in a fresh Debian; takes minutes and the network.
# make lock: the package's libraries, after a change of pyproject.toml; with UPGRADE=--upgrade at their present versions.
# make filter: builds the filter that ships anew; after each change of plugins/farm/filter.c or filter.h.

BIN := .venv/bin
JOBS ?= 3
# A file's tests stay together, because they share servers; the long ones stand first, and the short ones fill the end.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 10

.PHONY: setup demo demo-mirror test unit lint filter bench bench-farm bench-tools plots deb test-deb lock clean

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

deb: setup
	@deploy/debian/build dist

test-deb: setup
	@for each in debootstrap systemd-analyze:systemd; do command -v $${each%:*} >/dev/null || \
	  apt-get install -yq --no-install-recommends $${each#*:} >/dev/null || exit 1; done
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group deb
	@$(BIN)/python -m pytest -m deb -x tests/integration/packaging

lock: setup
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(BIN)/uv pip compile -q $(UPGRADE) --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --python-platform linux pyproject.toml -o deploy/debian/requirements.lock

bench: setup bench-tools
	@for each in bench/*.py; do echo "== $$each"; $(BIN)/python $$each || exit 1; done

# The farm's figures in docs/benchmarks.md, in about an hour and a half, on a machine that does nothing else.
FIGURES := docs/figures
bench-farm: setup bench-tools
	@mkdir -p $(FIGURES)
	$(BIN)/python bench/filter.py --json $(FIGURES)/filter.json
	for fault in agent link; do for profile in default fast; do \
	  $(BIN)/python bench/failover.py --fault $$fault --profile $$profile --json $(FIGURES)/failover-$$profile-$$fault.json \
	  || exit 1; done; done
	$(BIN)/python bench/connections.py --json $(FIGURES)/connections.json
	$(BIN)/python bench/buckets.py --json $(FIGURES)/buckets.json
	$(BIN)/python bench/packets.py --json $(FIGURES)/packets.json
	$(BIN)/python bench/flood.py --json $(FIGURES)/flood.json
	$(BIN)/python bench/stream.py --json $(FIGURES)/stream.json
	$(BIN)/python bench/table.py --json $(FIGURES)/table.json
	for kind in vmac_directed vmac_invisible; do \
	  $(BIN)/python bench/requests.py --kind $$kind --json $(FIGURES)/requests-$$kind.json || exit 1; done
	$(BIN)/python bench/agent.py --json $(FIGURES)/agent.json
	$(BIN)/python bench/eviction.py --json $(FIGURES)/eviction.json
	$(MAKE) plots

plots: bench-tools
	$(BIN)/python bench/shared/plots.py $(FIGURES) docs/plots

bench-tools: setup
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group bench
	@for each in iperf3 iptables keepalived wrk; do \
	  command -v $$each >/dev/null || apt-get install -yq --no-install-recommends $$each >/dev/null || exit 1; done

screenshots: setup
	@mkdir -p docs/screenshots
	@SAFEKIT_SCREENSHOTS=$(CURDIR)/docs/screenshots $(BIN)/python -m pytest -q tests/integration/test_console.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
