# PYTHON=python3.12 make ... chooses another Python.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
DEV := $(VENV)/ready-dev

.PHONY: help demo test lint notebook audit clean
help:  ## this list
	@echo 'make TARGET; a target that needs the virtual environment ($(VENV)) creates it first'
	@awk -F ':.*## ' '/^[a-z]+:.*##/ { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## train and review on the bundled digits: 1 to 5 minutes on two cores, once PyTorch is installed
	$(VENV)/bin/python train_fastai.py --data digits $(ARGS)

test: $(DEV)  ## all tests, on all cores, without a GPU: its results are not bit-for-bit reproducible
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile

lint: $(DEV)  ## ruff and the layers between packages, as CI runs them
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

notebook: $(DEV)  ## run the notebook and save it with its outputs; takes minutes
	$(VENV)/bin/python .ci/notebook.py

audit: $(DEV)  ## known vulnerabilities of the installed packages, by pip-audit; needs the network
	$(VENV)/bin/python .ci/audit.py

clean:  ## remove the virtual environment; runs/ stays
	rm -rf $(VENV)

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt
	touch $@

$(DEV): requirements-dev.txt requirements-export.txt $(READY)
	$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt
	touch $@
