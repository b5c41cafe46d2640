# make run: serve the app on port 7860. make test: install what the tests need, then ruff, mypy, the scripts' checks and the tests;
# make test-all: the slow ones, too.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: run test test-all browser scripts

run: .venv/run
	$(BIN)/python app.py

test: .venv/test browser scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-all: test
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

.venv/run: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/test: .venv/run requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

scripts:
	@if command -v npm > /dev/null; then npm ci --silent && npm run --silent check && npm test --silent; \
	else echo "The scripts' types, lint and unit tests are skipped: there is no npm."; fi

browser: .venv/test
	$(BIN)/python tests/browser.py
