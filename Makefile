# The commands of a first day, and of a working one. PYTHON may be any of 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test drills containers check down lock

install: $(INSTALLED)  ## the environment, in .venv

$(INSTALLED): requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("Theta needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[dev]' --progress-bar on
	touch $(INSTALLED)

demo: install  ## everything running, four months retrained, and what came of each
	$(BIN)/theta demo

test: install check  ## lint, types and every test but the marked fault drills
	$(BIN)/pytest -m "not faults" --numprocesses 2 --dist loadfile --no-loadscope-reorder

drills: install  ## kill services, workers and trials in the middle and see them come back
	$(BIN)/pytest -m faults

containers: install  ## build the image, bring docker-compose.yaml up and retrain in it; on an engine of its own where none runs
	THETA_TEST_DOCKERD=1 $(BIN)/pytest -m docker -s

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

down:  ## end everything `make demo` or `theta up` started here
	$(BIN)/theta down

lock: install  ## renew constraints.txt from requirements.txt
	$(BIN)/pip install --quiet uv
	{ echo '# Every package the resolution chose, for Python 3.11 to 3.13. Made by `make lock`; do not edit.'; \
	  { grep -v '^-c' requirements.txt; sed -n '/^dev = \[/,/\]/p' pyproject.toml | grep -o '"[^"]*"' | tr -d '"'; } \
	  | $(BIN)/uv pip compile --universal --python-version 3.11 --no-annotate --no-header --quiet - \
	  | sed 's/\[[a-z,]*\]//'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt
