# make demo   set up, make phantom scans, train, and print how well the nodules are found
# make test   set up, and run every check and test
# make check  format, lint and types only
# make fuzz   5,000 mutated scans, masks and tables, and 3,000 mutated files of stores, runs,
#             predictions and models: each must be read correctly or refused
# make lock   write requirements.lock again, with the versions installed in .venv (needs uv)
# make weights  train the built-in model again, on phantoms only (docs/builtin-model.md)
#
# Everything stays in this checkout (.venv, demo/).  The system's Python is not touched.
#   PYTHON=python3.12                      another interpreter (3.11 or newer)
#   TORCH="torch==2.13.0 --index-url URL"  another build of torch (GPU, ROCm, a site's own)

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto

TORCH_VERSION := from importlib.metadata import version; print(version("torch"))

.PHONY: demo test check fuzz lock weights setup clean

demo: $(VENV)/.package
	@$(BIN)/python -m nodule_det.demo

# One thread per process: the workers already fill the cores, and two threads that compete for one
# core are thirty times slower than one thread.
test: check
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

fuzz: $(VENV)/.dev
	@$(BIN)/python -m tests.fuzz.readers
	@$(BIN)/python -m tests.fuzz.stores

# torch and what it installs for a GPU are chosen by TORCH, so the lock leaves them out.
CHOSEN := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl \
  nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft \
  nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
  nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

lock: $(VENV)/.dev
	@$(BIN)/python -m pip freeze --exclude-editable | sed -n '/==/s/+.*//; /==/p' > $(VENV)/constraints.txt
	@uv pip compile pyproject.toml --extra dicom --universal --python-version 3.11 --quiet \
	  --generate-hashes --no-annotate --custom-compile-command 'make lock' \
	  --constraints $(VENV)/constraints.txt $(addprefix --no-emit-package ,$(CHOSEN)) \
	  --output-file requirements.lock

weights: $(VENV)/.package
	@$(BIN)/python docs/builtin_weights.py weights

setup: $(VENV)/.dev

# torch is installed first and separately: as a dependency, pip would choose the newest CUDA build.
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nodule_det needs Python 3.11 or newer; run make PYTHON=python3.X")'
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot create a virtual environment (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "installing $(TORCH) into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	@$(BIN)/python -c '$(TORCH_VERSION)' > $@.new && mv $@.new $@

define install
	@echo "installing $(1) into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '$(1)'
	@test "$$($(BIN)/python -c '$(TORCH_VERSION)')" = "$$(cat $(VENV)/.torch)" || { echo "error: torch is no longer $$(cat $(VENV)/.torch); a dependency replaced it" >&2; exit 1; }
	@touch $@
endef

$(VENV)/.package: $(VENV)/.torch pyproject.toml
	$(call install,.)

$(VENV)/.dev: $(VENV)/.package
	$(call install,.[dev])

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
