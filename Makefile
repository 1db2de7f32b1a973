# Two commands: `make demo` and `make test`. Both create .venv with what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
HELD_OUT := models/nano/evaluation/images
# Of the 20,000 modules that come along a few thousand are ever imported: those are compiled then, and what was compiled
# is kept, also where a container's environment says that Python should not: without it every process compiles them again.
INSTALL := pip install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE
# Two processes, each with all tests of a file, so that what a file exports is exported once; in tests/conftest.py's order.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

# ONNX Runtime as Immich has it on Intel's chips: called `onnxruntime` too, so in a folder of its own. Where there is no
# such package its test says so.
OPENVINO := build/openvino

.PHONY: demo test test-all test-rest clients threads lint docs wheel android-runners clean

demo: $(VENV)/.all
	$(BIN)/mobileclip-deploy export --target all --force -o $(DEMO)
	$(BIN)/mobileclip-deploy classify $(DEMO)/nano-coreml-fp16 \
		$(HELD_OUT)/1f431.png $(HELD_OUT)/1f355.png $(HELD_OUT)/1f697.png --labels "cat face,pizza,automobile,rocket,tree"
	@echo "The bundles are in $(DEMO)/; look into one with: $(BIN)/mobileclip-deploy inspect $(DEMO)/nano-coreml-fp16"

# Every promise once; every case of each; and what the first leaves of the second (tests/levels.py).
test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.dev $(OPENVINO)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-rest: $(VENV)/.dev $(OPENVINO)
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# The packages of clients/, each by its language's own tests, with random cases and planted faults. Its last lines
# are the sum, and what was skipped for want of a toolchain: what to install.
clients: $(VENV)/.test
	$(BIN)/python -m pytest tests/clients $(PYTEST_ARGS)

# The figures last accepted, and parity, under another number of threads; bytes are compared by test_nano itself.
FIGURES := tests/end_to_end/test_nano.py::test_the_bundle_has_the_figures_last_accepted
threads: $(VENV)/.test
	OMP_NUM_THREADS=3 $(BIN)/python -m pytest -m "not slow" $(FIGURES) tests/parity

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unreachable --cache-dir .mypy_cache/windows mobileclip_deploy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/linux.yml .github/workflows/macos.yml .github/workflows/newest.yml .github/workflows/release.yml .github/workflows/rented.yml .github/workflows/runners.yml .github/workflows/windows.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions .github/actions/verify/action.yml
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/hadolint Dockerfile

# The pages of docs/ as a site in build/site; a link that leads nowhere, or too many words, fail the build.
docs: $(VENV)/.dev
	$(BIN)/python -m pytest -q tests/docs/test_word_count.py
	$(BIN)/zensical build --clean --strict

# Builds the wheel and uses it from an empty environment, in another folder; then a bundle of it without torch.
wheel:
	rm -rf dist build/wheel-check && $(PYTHON) -m venv build/wheel-check
	build/wheel-check/bin/pip wheel --quiet --no-deps --wheel-dir dist .
	build/wheel-check/bin/$(INSTALL) "$$(ls $(CURDIR)/dist/*.whl)[onnx,coreml]"
	cd build/wheel-check && bin/mobileclip-deploy variants && \
		bin/mobileclip-deploy export --target onnx --force -o out && bin/mobileclip-deploy verify out/nano-onnx-fp16 && \
		bin/mobileclip-deploy demo --static site --force
	rm -rf build/wheel-run && $(PYTHON) -m venv build/wheel-run
	build/wheel-run/bin/$(INSTALL) "$$(ls $(CURDIR)/dist/*.whl)[onnx-run]"
	cd build/wheel-check && ! ../wheel-run/bin/python -c "import torch" 2>/dev/null && \
		../wheel-run/bin/mobileclip-deploy verify out/nano-onnx-fp16 --checks files

# The archive of ready runners for Android phones, in dist/ (android_harness/README.md).
android-runners:
	android_harness/runners/build.sh

clean:
	rm -rf $(VENV) $(DEMO) build dist

# Named after the extra of pyproject.toml that is installed. While pip unpacks on one core, another builds and fetches what
# tests need of Swift and JavaScript, which takes no package; a test that comes too early waits for it.
$(VENV)/.test: BESIDE = for name in transformers_client swift_package; do nice $(PYTHON) tests/$$name.py & done;
$(VENV)/.all $(VENV)/.test $(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BESIDE) $(BIN)/$(INSTALL) --editable '.[$(subst .,,$(@F))]' && touch $@

$(OPENVINO): | $(VENV)/bin/python
	-$(BIN)/$(INSTALL) --no-deps --target $@ onnxruntime-openvino==1.24.1

# The newest pip: that of Python 3.11 takes twice as long to choose versions.
$(VENV)/bin/python:
	$(PYTHON) -m venv --upgrade-deps $(VENV)
