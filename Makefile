# One runner. Every target makes what it needs, from a fresh clone on: `make demo`, `make test`, `make test-long`,
# `make test-kokkos`, `make check-cuda`, `make cuda-archive`, `make lint`, `make format`, `make docs`, `make bench`,
# `make bench-learn`, `make wheel`, `make clean`.

PYTHON ?= python3
VENV ?= .venv
# Tests run in this many processes, 0: in one.
WORKERS ?= 2
PYTEST_OPTIONS ?=
# Of scripts/cuda_archive.py.
ARCHIVE_OPTIONS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CPP_SOURCES := $(shell find src plugins -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt) CMakeLists.txt
CPP_FILES := $(shell find src plugins -name '*.cpp' -o -name '*.h')
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.PHONY: demo test test-long test-kokkos check-cuda cuda-archive lint format docs bench bench-learn wheel check-system clean

# --- the environment ---------------------------------------------------------------------------------------------

define need
	@$(1) >/dev/null 2>&1 || { echo "qnep needs $(2): sudo apt-get install $(3)" >&2; exit 1; }
endef

check-system:
	$(call need,command -v $(PYTHON),Python 3.10 or newer,python3)
	$(call need,$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))',Python 3.10 or newer,python3)
	$(call need,$(PYTHON) -c 'import venv$(comma) ensurepip',Python's venv module,python3-venv)
	$(call need,$(PYTHON) -c 'import os$(comma) sysconfig; open(os.path.join(sysconfig.get_paths()["include"]$(comma) "Python.h"))',Python's headers,python3-dev)
	$(call need,command -v $${CXX:-c++},a C++17 compiler,g++)

comma := ,

$(VENV)/stamp-tools: constraints.txt | check-system
	@echo "--- making the Python environment $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install cmake ninja
	$(BIN)/python scripts/build_requirements.py pyproject.toml | $(PIP) install --requirement /dev/stdin
	@touch $@

# The editable installation with all that tests and demo use; again when a C++ source changed.
$(VENV)/stamp-package: $(VENV)/stamp-tools pyproject.toml constraints.txt $(CPP_SOURCES)
	@echo "--- compiling and installing qnep with its optional parts"
	@# The tests' tools first: one of them is compiled, with build requirements of its own that isolation brings.
	$(BIN)/python scripts/build_requirements.py pyproject.toml test | $(PIP) install --constraint constraints.txt --requirement /dev/stdin
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[all,test]'
	@# PLUMED's kernel and its Python module come with this package; its own dependencies are of no use here.
	$(PIP) install --no-deps hillclimber==0.1.8
	@touch $@

$(VENV)/stamp-lint: $(VENV)/stamp-tools pyproject.toml
	$(BIN)/python scripts/build_requirements.py pyproject.toml lint | $(PIP) install --requirement /dev/stdin
	@touch $@

$(VENV)/stamp-docs: $(VENV)/stamp-package pyproject.toml
	$(BIN)/python scripts/build_requirements.py pyproject.toml docs | $(PIP) install --requirement /dev/stdin
	@touch $@

# --- what to run -------------------------------------------------------------------------------------------------

demo: $(VENV)/stamp-package
	$(BIN)/python examples/demo.py

test: $(VENV)/stamp-package
	$(BIN)/python -m pytest --numprocesses $(WORKERS) $(PYTEST_OPTIONS)

test-long: $(VENV)/stamp-package
	$(BIN)/python -m pytest -m long $(PYTEST_OPTIONS)

# Builds a LAMMPS with KOKKOS the first time (10 CPU minutes), outside the repository.
test-kokkos: $(VENV)/stamp-package
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/build_lammps_kokkos.py
	$(BIN)/python -m pytest tests/kokkos -m "long or not long" $(PYTEST_OPTIONS)
	PYTHONPATH=tests/kokkos $(BIN)/python -m pytest -p host_tests_with_kokkos $(PYTEST_OPTIONS) \
	    $(addprefix tests/lammps/test_,routes.py committee.py dynamics.py heat_flux.py conp.py electric.py grade.py)

# Compiles qnep/kk for NVIDIA's GPUs, which needs none; nvcc comes from the Python package index where there is none.
check-cuda: $(VENV)/stamp-tools
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python scripts/build_lammps_kokkos.py --backend cuda --only-plugin

# One file for a machine with a GPU and no network: build/qnep-cuda.tar.xz; see docs/kokkos.md.
cuda-archive: $(VENV)/stamp-tools
	$(BIN)/python scripts/cuda_archive.py $(ARCHIVE_OPTIONS)

lint: $(VENV)/stamp-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)

format: $(VENV)/stamp-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

docs: $(VENV)/stamp-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/stamp-package
	$(BIN)/python benchmarks/run.py

# Ab initio dynamics against the three policies of the learner, of a liquid with tblite and of an interface with GPAW,
# which takes hours and goes on where it was interrupted.
bench-learn: $(VENV)/stamp-package
	$(BIN)/python benchmarks/run.py learn learn_gpaw

wheel: $(VENV)/stamp-tools
	$(PIP) install build
	rm -rf dist
	$(BIN)/python -m build
	PYTHON=$(BIN)/python scripts/check_wheel.sh

clean:
	rm -rf build dist docs/_build $(VENV)
