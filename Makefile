# make demo   ten seconds of the real-time loop; needs Python >= 3.10 and nothing else
# make test   the environment with torch, then style, types and all tests
# make lock   resolve requirements/*.txt anew, for all Pythons at once
PYTHON ?= python3
DEMO := .venv-demo
TEST := .venv-test
# The last torch that was tested. Any other one may bring gigabytes of CUDA libraries.
TORCH := torch==2.13.0

.PHONY: demo test lint lock clean

demo: $(DEMO)/installed
	$(DEMO)/bin/hearloop demo --out demo

# What plays in real time comes after the rest, alone.
test: lint
	$(TEST)/bin/python -m pytest -m "not realtime" --numprocesses auto --dist loadfile $(PYTEST_ARGS)
	$(TEST)/bin/python -m pytest -m realtime $(PYTEST_ARGS)

lint: $(TEST)/installed
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/mypy

# The stamp says that the environment is complete; half an environment is made again from the start.
.venv-%/installed: requirements/%.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "hearloop needs Python 3.10 or newer, this is " \
	    + sys.version.split()[0] + "; name another one with: make PYTHON=python3.12 $*")'
	$(PYTHON) -m venv --clear .venv-$*
	.venv-$*/bin/python -m pip install --quiet --requirement $<
	.venv-$*/bin/python -m pip install --quiet --no-deps --editable .
	.venv-$*/bin/python -c 'import hearloop.runtime.live'
	touch $@

# The CUDA libraries that torch from the Python package index asks for stay out of the lock: they belong to one
# platform, and a build of torch for the CPU does without.
lock: LOCK = uv pip compile --quiet --universal --python-version 3.10 --no-annotate --custom-compile-command 'make lock'
lock:
	$(LOCK) --upgrade --extra plot pyproject.toml --output-file requirements/demo.txt > /dev/null
	echo '$(TORCH)' | $(LOCK) --constraints requirements/demo.txt --extra dev pyproject.toml - \
	    | grep --invert-match --extended-regexp '^(cuda|nvidia|triton)' > requirements/test.new
	mv requirements/test.new requirements/test.txt

clean:
	rm -rf .venv-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f demo/*.wav demo/*.png demo/*.json
