# One command a chore; `make help` lists them. Everything is installed into .venv, nothing twice.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
ARGS ?=

.PHONY: help setup demo test lint format check browser clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.dev ## make .venv with what the program and its tests need

demo: $(VENV)/.runtime ## start the page with the small demo model; ARGS="--port 8000" and the like are passed on
	@exec $(PY) app.py --model demo $(ARGS)

test: $(VENV)/.dev browser ## run every test; ARGS="-k trace" and the like are passed on
	$(PY) -m pytest $(ARGS)

lint: $(VENV)/.dev ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.dev ## put the code into the project's style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

check: lint test ## what has to pass before a commit

clean: ## remove .venv and the tools' caches; the demo base stays in its cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

# The stamps stand for what was installed: a file that changed since is installed anew, and so is one interrupted.
# PYTHON=... chooses the interpreter. Each candidate is run: a name on the PATH may be too old, lack venv, or be a
# version manager's shim for a Python that is not there.
$(VENV)/.made:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making $(VENV) with $$($$python --version)"; \
			$$python -m venv $(VENV) && exec touch $@; \
			exit 1; \
		fi; \
	done; \
	echo "No Python 3.11 or newer with venv was found (on Debian: apt-get install python3 python3-venv)." \
		"Name one with: make PYTHON=/path/to/python3" >&2; exit 1

$(VENV)/.runtime: requirements.txt $(VENV)/.made
	$(PIP) install -r requirements.txt
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --group dev
	@touch $@

# The browser tests drive Chromium, which Python packages do not bring.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else \
		echo "The browser tests need Chromium: install your system's package (on Debian, as root:" \
			"apt-get install chromium), then run make test again." >&2; exit 1; \
	fi
