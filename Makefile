# hotreload: everything a developer runs. `make` alone shows the targets.
#
# The first run creates .venv and installs the package into it, editable: Python files are used where they are, C files
# are compiled again when one of them has changed (see $(INSTALLED)).

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST_ARGS ?=
MUTANTS ?= 200000
SECONDS ?= 60
# Zig, 100 MB, for the tests that are skipped without it: EXTRAS=dev,zig
EXTRAS ?= dev
# Files of tests that run at a time; they wait more than they compute.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))

# The C sources also by their directories, whose time changes when a file is added or removed.
BUILT_FROM := pyproject.toml hotreload/__init__.py shim/CMakeLists.txt shim/cffi_build.py shim/hotreload.map \
	shim/hotreload.pc.in $(wildcard shim/cmake/*) shim/src shim/include/hotreload \
	$(wildcard shim/src/*.[ch]) $(wildcard shim/include/hotreload/*.h*)

# An editable install knows the modules by name: one that was added, moved or removed needs it again.
MODULES := $(VENV)/.modules-$(shell echo $(sort $(wildcard hotreload/*.py hotreload/*/*.py hotreload/*/*/*.py)) | cksum | tr ' ' '-')

C_FLAGS := -std=c11 -Wall -Wextra -Wpedantic -Werror -Ishim/include
RUST := $(wildcard shim/rust/Cargo.toml)
RUST_EXAMPLES := $(wildcard examples/*/*/Cargo.toml)
CARGO := $(shell command -v cargo)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench sanitize fuzz docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Watch a running C program change its behaviour, then a Rust one where cargo is there
	$(BIN)/hotreload demo
ifneq ($(CARGO),)
	$(BIN)/hotreload demo --example counter-rust
endif

test: $(INSTALLED) ## Run all tests (PYTEST_ARGS="-k name" for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(INSTALLED) ## Check style, types and warnings; fast enough for every commit
	$(BIN)/ruff check --quiet --output-format concise .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --strict hotreload
	@echo "$(CC) $(C_FLAGS)"
	@set -e; for source in shim/src/*.c; do $(CC) $(C_FLAGS) -O2 -c $$source -o /dev/null; done # -O2: more warnings
	@$(CC) $(C_FLAGS) -fsyntax-only -Itests/native/hosts $(wildcard tests/native/*.c tests/native/fuzz/*.c tests/native/hosts/*.c tests/bench/*.c)
ifneq ($(CARGO),)
	@set -e; for manifest in $(RUST); do \
		echo "cargo fmt and clippy: $$manifest"; \
		cargo fmt --manifest-path $$manifest --all --check; \
		cargo clippy --quiet --manifest-path $$manifest --workspace --all-targets -- --deny warnings; \
		cargo clippy --quiet --manifest-path $$manifest --all-targets --features macros -- --deny warnings; \
	done
	@set -e; for manifest in $(RUST_EXAMPLES); do cargo fmt --manifest-path $$manifest --check; done
else
	@echo "cargo is not here: Rust is not checked"
endif

format: $(INSTALLED) ## Format Python and Rust sources
	$(BIN)/ruff check --quiet --select I --fix .
	$(BIN)/ruff format .
ifneq ($(CARGO),)
	@set -e; for manifest in $(RUST); do cargo fmt --manifest-path $$manifest --all; done
endif

bench: $(INSTALLED) ## Measure calls, latency and start-up, as ratios within this run
	@set -e; for script in $(sort $(wildcard tests/bench/bench_*.py)); do \
		echo; echo "== $$script"; $(BIN)/python $$script; \
	done

.PHONY: bad-patches
bad-patches: $(INSTALLED) ## Load 41 bad patches into hosts, with the guard, on trial, without, and over cr.h; writes tests/bench/BAD_PATCHES.md
	$(BIN)/python tests/bench/bad_patches.py --write

.PHONY: bench-peers
bench-peers: $(INSTALLED) ## Measure published peers beside us; writes tests/bench/RESULTS.md (8 minutes, wants cargo)
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check 'matplotlib>=3.9'
	$(BIN)/python tests/bench/peers/run.py
	$(BIN)/python tests/bench/report.py

.PHONY: bench-baseline
bench-baseline: ## Renew the instruction counts that the tests compare with (wants valgrind); commit them with the reason
	$(PYTHON) tests/bench/instructions/measure.py --update

sanitize: ## Run the native tests under ThreadSanitizer, AddressSanitizer and UBSan
	bash tests/native/sanitize.sh

fuzz: $(INSTALLED) ## Fuzz preflight, layouts, the wire and the black box, SECONDS=60 each, then MUTANTS=200000 damaged modules (wants clang)
	$(BIN)/python tests/native/fuzz/run.py --seconds $(SECONDS)
	MUTANTS=$(MUTANTS) $(BIN)/python -m pytest tests/native/test_preflight.py -k random_damage $(PYTEST_ARGS)

docs: $(INSTALLED) ## Build the manual into build/docs, with references of CLI, C and Rust, and check its links
	$(BIN)/python -m hotreload.manual build/docs

clean: ## Remove all that make and the builds have created
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
	rm -rf shim/rust/target examples/*/target examples/*/*/target examples/*/build tests/bench/peers/build
	find hotreload shim tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "hotreload needs Python 3.10 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "cannot create $(VENV): install Python's venv module (Debian, Ubuntu: apt-get install python3-venv)" >&2; \
		exit 1; }

$(MODULES): | $(BIN)/python
	@rm -f $(VENV)/.modules-*; touch $@

# Without build isolation, which would download the build tools again for every change of a C file. A system without
# CMake or Ninja gets them from PyPI.
$(INSTALLED): $(BIN)/python $(BUILT_FROM) $(MODULES)
	@command -v $(CC) >/dev/null || { echo "install a C compiler (Debian, Ubuntu: apt-get install gcc)" >&2; exit 1; }
	@test -x $(BIN)/ruff || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'scikit-build-core>=0.10' \
		'cffi>=1.16' $$(command -v cmake >/dev/null || echo cmake) $$(command -v ninja >/dev/null || echo ninja)
	@echo "installing hotreload into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@
