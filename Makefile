# Everything runs from a fresh clone with nothing but make and python3 (3.10 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-fast test-portable test-wheel lint install clean

install: $(VENV)/installed

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "goca needs Python 3.10 or newer; make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e '.[serve]'
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e '.[test,lint,train]'
	touch $@ $(VENV)/installed

# One scene that no training saw, as an image file, and its segmentation.
demo: $(VENV)/installed
	rm -rf demo
	$(BIN)/goca scenes --count 1 --seed 2026 --out demo/scene
	classes=$$($(BIN)/python -c 'import json; print(json.load(open("demo/scene/captions.json"))["00000.png"]["caption"])') \
	&& $(BIN)/goca segment demo/scene/images/00000.png --classes "$$classes" --out demo
	@echo "image:        demo/scene/images/00000.png"
	@echo "segmentation: demo/00000_overlay.png (true labels: demo/scene/labels/00000.png)"
	@echo "page:         $(BIN)/goca serve, then open http://127.0.0.1:8642 in a browser"

# One process a core, at most four; one thread in each (tests/conftest.py), because small tensors gain nothing from more.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test: $(VENV)/installed-dev
	$(PYTEST)

# Everything but what is marked slow, in less than two minutes on two cores.
test-fast: $(VENV)/installed-dev
	$(PYTEST) -m "not slow"

# The tests about numbers with the instructions of an older processor.
test-portable: $(VENV)/installed-dev
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=COMPATIBLE \
	$(PYTEST) -m "not slow" tests/maps tests/backbones tests/guidance tests/test_segmenter.py tests/test_verify.py

# The wheel in an empty environment, with its dependencies from the package index, outside the repository.
WHEEL := $(CURDIR)/build/wheel
test-wheel: $(VENV)/installed-dev
	rm -rf $(WHEEL)
	$(BIN)/python -m build --no-isolation --outdir $(WHEEL) .
	$(BIN)/python -m twine check --strict $(WHEEL)/*
	$(BIN)/python -m check_wheel_contents $(WHEEL)/*.whl
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/pip install -q -c constraints.txt $(WHEEL)/*.whl
	cd $(WHEEL) && venv/bin/goca scenes --count 1 --seed 2026 --out scene && classes=$$(venv/bin/python -c \
	'import json; print(json.load(open("scene/captions.json"))["00000.png"]["caption"])') \
	&& venv/bin/goca segment scene/images/00000.png --classes "$$classes" --out out && venv/bin/goca doctor

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo
