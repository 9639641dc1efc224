# PYTHON=python3.12 make ... chooses another Python.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
DEV := $(VENV)/ready-dev

.PHONY: help demo test lint notebook audit clean
help:  ## this list
	@echo 'make TARGET; each makes its virtual environment ($(VENV)) first, if it needs one'
	@awk -F ':.*## ' '/^[a-z]+:.*##/ { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## the whole job on the bundled digits: 1 to 5 minutes on two cores, after installing PyTorch (once)
	$(VENV)/bin/python train_fastai.py --data digits $(ARGS)

test: $(DEV)  ## all tests, on all cores; a GPU is hidden, as it computes nothing twice to the same bits
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile

lint: $(DEV)  ## ruff, as CI runs it
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

notebook: $(DEV)  ## run the notebook anew, as it is committed: minutes
	$(VENV)/bin/python .ci/notebook.py

audit: $(DEV)  ## known vulnerabilities of what is installed, by pip-audit; needs the network
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
