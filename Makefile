# The project's commands; `make` alone lists them.
#
#   VENV=.venv       the environment to build from constraints.txt and to use; VENV=none uses the one at hand
#   PYTHON=python3   the Python that makes that environment or, with VENV=none, is used itself
#   CUDAARCHS=90     the GPUs to compile development builds for (`make wheel` compiles for all)
#   SSD_FAST_CUDA    AUTO, ON or OFF: whether to build the CUDA kernels (AUTO: if nvcc is found)
#   PYTEST_ARGS      for make test and test-fast, such as PYTEST_ARGS="-x tests/ops/test_nms.py"; then in one process
#   WORKERS          for the same: how many processes share the test files (one per core, at most 8)
#   KILLS            for make kill-test: how many kills
#   CALLS, SEED, BACKEND  for make fuzz and fuzz-asan: how many calls, with which seed, on "cpu" or "emulated"
#   FUZZ_ARGS        for the same, such as FUZZ_ARGS="--only 1234" or FUZZ_ARGS="--json FILE"
#   OUT, STAGES, DEADLINE  for make gpu-report: the folder, STAGES="first tests ...", and seconds for all stages
#   RUNNERS, VARIANTS      for the same: a folder of C++ runners built elsewhere; VARIANTS="base= fast=-DSSD_TILE=64"
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
PYTHON ?= python3
EXTRAS := test,bench,train,examples,docs

ifeq ($(VENV),none)
  PY := $(PYTHON)
  INSTALLED :=
else
  PY := $(VENV)/bin/python
  INSTALLED := $(VENV)/.installed
endif
PIP := $(PY) -m pip --disable-pip-version-check

# Only the toolkit matters, not a GPU: with nvcc the kernels are built, and the emulator tests their source.
NVCC := $(or $(CUDACXX),$(shell command -v nvcc))
ifneq ($(VENV),none)
  export PATH := $(abspath $(VENV))/bin:$(PATH)
endif
CUDAARCHS ?= 90
export CUDAARCHS

CONFIGURE = cmake -S . --log-level=WARNING $$(command -v ninja >/dev/null && echo -GNinja) -DSSD_FAST_CUDA=OFF \
	  -DPython_EXECUTABLE="$$($(PY) -c 'import sys; print(sys.executable)')" \
	  -Dpybind11_DIR="$$($(PY) -m pybind11 --cmakedir)"
CONFIGURE_TESTS = $(CONFIGURE) -B build/tests -DSSD_FAST_TESTS=ON
CONFIGURE_CUDA = $(CONFIGURE) -B build/gpu -DSSD_FAST_TESTS=ON -DSSD_FAST_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=$(CUDAARCHS)

# The tests of a file stay in one process, and the files that take longest start first (tests/helpers/slow_tests.py).
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))
PARALLEL = $$($(PY) -c 'import xdist' 2>/dev/null && \
  printf -- '-n %s --dist loadfile --no-loadscope-reorder' $(WORKERS))

CPP_FILES := find csrc tests scripts/op_templates -name '*.h' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu'

.PHONY: help venv build build-tests test test-fast lint format docs demo mutate fuzz fuzz-asan kill-test sweep bench budgets \
  gpu-report gpu-rehearsal gpu-runners wheel clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

venv: $(INSTALLED)  ## build the environment from constraints.txt if it is out of date

$(VENV)/.installed: constraints.txt pyproject.toml
	@echo "venv: installing the pinned packages into $(VENV) (torch is large: this takes minutes)"
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-compile -c constraints.txt setuptools wheel pybind11 cmake ninja
	$(PIP) install --quiet --no-compile --no-build-isolation -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

build: venv  ## compile ssd_fast._C in place, with CUDA kernels if nvcc is found
ifeq ($(SSD_FAST_CUDA),OFF)
	@echo "build: SSD_FAST_CUDA=OFF: kernels for the CPU only"
else ifeq ($(NVCC),)
	@echo "build: no nvcc on the PATH: kernels for the CPU only"
else
	@echo "build: kernels for the CPU, and for CUDA architectures $(CUDAARCHS)"
endif
	$(PIP) install --quiet --no-build-isolation --no-deps -e .

build-tests: venv  ## compile the emulated extension and the C++ runners (needs the CUDA toolkit's headers, no GPU)
ifeq ($(NVCC),)
	@echo "build-tests: no CUDA toolkit (nvcc) on the PATH: the tests of the CUDA kernels' source will be skipped"
else
	$(CONFIGURE_TESTS)
	cmake --build build/tests --parallel --target _C_emulated _C_counted patterns_count runners
endif

test: lint build build-tests  ## run all checks and tests
	$(if $(NVCC),SSD_FAST_REQUIRE_EMULATED=1) OMP_WAIT_POLICY=passive $(PY) -m pytest $(or $(PYTEST_ARGS),$(PARALLEL))

# The CPU kernels and Python, without the tests that are marked slow.
test-fast: build  ## run the quick tests, which need no emulator and no GPU (about 2 minutes on 2 cores)
	OMP_WAIT_POLICY=passive $(PY) -m pytest -m "not slow and not gpu" $(or $(PYTEST_ARGS),$(PARALLEL))

# With VENV=none a linter may be missing: then a message says so, and the others run.
lint: venv  ## check with ruff, codespell, clang-format and mypy; changes nothing
	@lint() { if [[ "$(VENV)" == none ]] && ! command -v "$$1" >/dev/null; then \
	    echo "lint: $$1 is not installed: skipped"; else echo "lint: $$*"; "$$@"; fi; }; \
	lint ruff check .; \
	lint ruff format --check .; \
	lint codespell; \
	lint clang-format --dry-run -Werror $$($(CPP_FILES)); \
	lint mypy

format: venv  ## let ruff and clang-format rewrite the sources
	ruff check --fix-only .
	ruff format .
	clang-format -i $$($(CPP_FILES))

# Reads the sources and the pages: needs no build, and loads nothing from the network.
docs: venv  ## build the documentation in build/site; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict
	@echo "docs: build/site/index.html"

demo: build  ## detect objects in the package's photos; writes pictures to demo/
	$(PY) -c 'from ssd_fast.cli import main; main()' demo

mutate: build build-tests  ## plant bugs and check that the tests find them (slow)
	$(PY) scripts/mutate.py

kill-test: build  ## kill a training KILLS (30) times, resume it, and compare the weights bit for bit
	$(PY) scripts/kill_training.py --kills $(or $(KILLS),30)

CALLS ?= 100000
SEED ?= 0
BACKEND ?= cpu
FUZZ = PYTHONPATH=tests OMP_NUM_THREADS=1 $(PY) -W ignore -m fuzz --calls $(CALLS) --seed $(SEED) \
	  --backend $(BACKEND) $(FUZZ_ARGS)

fuzz: build $(if $(filter emulated,$(BACKEND)),build-tests)  ## make CALLS random calls of the ops, valid and broken
	$(FUZZ)

# The sanitizers' library must be loaded first, together with the C++ library, whose exceptions it intercepts.
fuzz-asan: build  ## the same with the address and undefined behavior sanitizers (about 3 times slower)
ifeq ($(BACKEND),emulated)
	$(CONFIGURE_TESTS)
	cmake --build build/tests --parallel --target _C_emulated_asan
else
	$(CONFIGURE) -B build/asan -DSSD_FAST_SANITIZE=ON
	cmake --build build/asan --parallel --target _C
endif
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1500 \
	  LD_PRELOAD="$$($(or $(CXX),c++) -print-file-name=libasan.so) $$($(or $(CXX),c++) -print-file-name=libstdc++.so.6)" \
	  $(FUZZ) --extension $(if $(filter emulated,$(BACKEND)),build/tests/asan/_C_emulated*.so,build/asan/_C*.so)

sweep: venv  ## measure the largest error of exp, log and log1p over every float (minutes)
	$(CONFIGURE_TESTS)
	cmake --build build/tests --target sweep_exp_log
	build/tests/runners/sweep_exp_log

bench: build  ## run every benchmark; writes a report to OUT (build/bench)
	$(PY) bench/report.py $(or $(OUT),build/bench)

# BUDGETS="--only calls", "--check", "--update", "--page docs/benchmarks.md"
budgets: build  ## count what the kernels cost: machine code, launches, requests to memory (needs nvcc, no GPU)
	$(CONFIGURE_TESTS)
	cmake --build build/tests --parallel --target _C_counted
	$(PY) scripts/kernel_budgets.py $(BUDGETS)

# Downloads nothing: uses the environment of `make venv` if there is one, else the one at hand.
gpu-report:  ## report what is right and what is slow on a GPU, in STAGES (first), to OUT/report.md
	@test -n "$(OUT)" || { echo "gpu-report: name a folder: make gpu-report OUT=DIR" >&2; exit 2; }
	$(if $(wildcard $(INSTALLED)),$(PY),$(PYTHON)) scripts/gpu_report.py "$(OUT)" --stages $(or $(STAGES),first) \
	  --deadline $(or $(DEADLINE),480) $(if $(RUNNERS),--runners "$(RUNNERS)") $(if $(VARIANTS),--variants $(VARIANTS))

gpu-rehearsal: build build-tests  ## rehearse gpu-report without a GPU: every stage, misbehaving tools, kills (minutes)
	$(PY) scripts/gpu_rehearsal.py $(or $(OUT),build/gpu-rehearsal)

gpu-runners: venv  ## compile the C++ runners for a GPU, also on another machine, into build/gpu/runners
	$(CONFIGURE_CUDA)
	cmake --build build/gpu --parallel --target cuda_runners

wheel: venv  ## build a wheel in dist/ for all CUDA architectures
	env -u CUDAARCHS CMAKE_ARGS="-UCMAKE_CUDA_ARCHITECTURES $(CMAKE_ARGS)" \
	  $(PIP) wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .

clean:  ## remove everything built, except the environment
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks ssd_fast/_C*.so
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
