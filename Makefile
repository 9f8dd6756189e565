# make demo: upscale the clip that comes with srfast.   make test: run the tests.   Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

# The tests whose dtype and kernels the CPU decides, as on other classes of CPUs than this one (docs/backends.md); with
# make -j2 at the same time.
CLASSES := avx512_bf16 amx
OF_CLASSES := tests/engine tests/test_upscaler.py $(addprefix tests/cli/test_,cli.py models.py queue.py size.py tune.py) \
	tests/video/test_matrix.py tests/backends/cpu/test_choice.py

# The compiled modules of a checkout, one for each of these folders of csrc/.
BUILT := $(addprefix $(VENV)/built-,cpu video cuda)

.PHONY: demo test test-classes page browser lint types docs gate sanitize bench bench-report clean

demo: $(VENV)/installed
	@$(BIN)/srfast demo demo-output

# Two files at a time at most, as kernels use all cores themselves; threads that wait leave the cores to the others. The
# order is that of tests/conftest.py: long files first, so that none begins as the other worker ends.
test: $(VENV)/installed-dev $(BUILT)
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# The tests that drive a browser. `make test` has them too where all they need is there, and else skips them.
page: $(VENV)/installed-page $(BUILT) browser
	SRFAST_REQUIRE_BROWSER=1 $(BIN)/python -m pytest tests/service/test_page.py tests/cli/test_compare_browser.py $(ARGS)

browser:
	@.ci/browser

test-classes: $(CLASSES:%=test-class-%)

test-class-%: $(VENV)/installed-dev $(BUILT)
	SRFAST_CPU=$* $(BIN)/python -m pytest -q -p no:cacheprovider $(OF_CLASSES)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/clang-format --dry-run --Werror $$(find csrc -name '*.h' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu')

types: $(VENV)/installed-dev
	$(BIN)/mypy -p srfast -p benchmarks

# The documentation as a site, in build/site.
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

# Two passes, to show repeatability, into benchmarks/records/; ONLY chooses pieces (a -k expression of pytest), and
# ARGS goes on, as ARGS="--gate 'flock /tmp/lock'" on a machine that others use too.
bench: $(VENV)/installed-bench $(BUILT)
	for run in 1 2; do $(BIN)/python -W ignore -m pytest -p no:cacheprovider benchmarks --record auto --run $$run \
		$(if $(ONLY),-k "$(ONLY)") $(ARGS) || exit 1; done
	$(BIN)/python -m benchmarks.compare

bench-report: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.report

# Compiles the Triton kernels for six GPU architectures, none of which need be here, and reads their machine code.
gate: $(VENV)/installed-dev
	$(BIN)/python -m srfast.kernels.tools.compile_gate

# The CPU kernels, built apart with AddressSanitizer and UBSan, through all of their tests; ONLY chooses some (-k of pytest).
sanitize: $(VENV)/installed-dev
	SRFAST_SANITIZE=1 SRFAST_BUILD_CUDA=0 $(BIN)/python setup.py -q build_ext -b build/sanitize -t build/sanitize/objects
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=. \
		LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		$(BIN)/python -m pytest -p tests.helpers.sanitized -p no:cacheprovider -o timeout=0 tests/kernels/cpu tests/backends/cpu $(if $(ONLY),-k "$(ONLY)")

# Each installation compiles the kernels, so it is one command with all that is wanted; the larger stand for the smaller. Python
# compiles modules when they are first imported, most of them never.
$(VENV)/installed: EXTRAS :=
$(VENV)/installed-dev: EXTRAS := [dev]
$(VENV)/installed-page: EXTRAS := [dev,page]
$(VENV)/installed-bench: EXTRAS := [dev,bench]

$(VENV)/installed $(VENV)/installed-dev $(VENV)/installed-page $(VENV)/installed-bench: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
		{ echo "srfast needs Python 3.10 or newer: sudo apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python cannot make virtual environments here: sudo apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) install --no-compile -c constraints.txt -e '.$(EXTRAS)'
	@touch $@ $(BUILT) $(VENV)/installed $(if $(EXTRAS),$(VENV)/installed-dev)

# After a change to its sources a module is built again, and only that one: CUDA takes minutes. The recipe looks at the times
# itself, as make did so before the installation, which builds them all. setup.py takes a failed build for a warning, and the
# tests must not go on with the module of before.
$(VENV)/built-cpu: MODULE := _cpu
$(VENV)/built-video: MODULE := _ffmpeg
$(VENV)/built-cuda: MODULE := _cuda
$(VENV)/built-cpu: $(wildcard csrc/cpu/*)
$(VENV)/built-video: $(wildcard csrc/video/*)
$(VENV)/built-cuda: $(wildcard csrc/cuda/*)
$(BUILT): $(VENV)/built-%: | $(VENV)/installed-dev
	@if test -e $@ && test -z "$$(find $^ -newer $@)"; then exit 0; fi; \
	echo "building srfast.$(MODULE), whose sources have changed"; \
	mkdir -p build/before; rm -f build/lib*/srfast/$(MODULE).*.so; mv -f srfast/$(MODULE).*.so build/before 2>/dev/null; \
	env $(foreach other,$(filter-out $*,cpu video cuda),SRFAST_BUILD_$(shell echo $(other) | tr a-z A-Z)=0) \
		$(BIN)/python setup.py -q build_ext --inplace; \
	if ls srfast/$(MODULE).*.so >/dev/null 2>&1; then rm -f build/before/$(MODULE).*.so; \
	elif mv build/before/$(MODULE).*.so srfast 2>/dev/null; then \
		echo "srfast.$(MODULE) did not build; the one of before is still there"; exit 1; fi
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
