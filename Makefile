# Every target sets itself up: a virtual environment in .venv, and the one system package that may be missing.
# PYTHON=python3.12 make test   chooses another interpreter (after a make clean).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PURE_CORE := edge/autofocus.py,edge/belief.py,edge/optics.py,edge/proof.py,edge/sharpness.py,edge/sweep.py,edge/tiles.py,edge/view.py,firmware_iface/profile.py

.PHONY: help demo test lint format coverage figures service-figures bench-figures study halves vm-tools vm-figures boot-tools boot-figures clean

help:
	@echo "make demo      bring a simulated specimen into focus and draw the run into demo.png (no TensorFlow)"
	@echo "make test      run the whole test suite"
	@echo "make lint      style, types and import rules"
	@echo "make format    put the style right"
	@echo "make coverage  branch coverage of the pure core, at least 95 %"
	@echo "make figures   what the shipped model and the loop reach, docs/model-card.md (half an hour; root; ../shared/data)"
	@echo "make service-figures  start-up, memory, a day of drift, generated requests, pictures of the page (half an hour)"
	@echo "make bench-figures    beside how others focus, latency, growth: docs/bench (an hour; nothing else should run)"
	@echo "make study     the paper's recipe and ours, and three networks, on simulated data in the Jiang layout (an hour)"
	@echo "make halves    train on the left half of a real stack, judge on its right half (uses ../shared/data)"
	@echo "make vm-tools    install what the tests marked vm need (root; without it they are skipped)"
	@echo "make vm-figures  GPIO drivers in a virtual machine, the unit, the model on arm64 (minutes)"
	@echo "make boot-figures  the page in a browser; the service installed, booted, failing (half an hour; make boot-tools)"
	@echo "make clean     remove the environment and everything built"

demo: $(VENV)/.for-demo
	$(BIN)/parfocal focus --rig simulated --specimen tissue --start-defocus-um 25 --seed 1 --plot demo.png

test: $(VENV)/.for-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.for-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/.for-test
	$(BIN)/python -m pytest --cov --cov-report= $(PYTEST_ARGS)
	$(BIN)/coverage report --include=$(PURE_CORE) --fail-under=95

# Every figure that the README and the model's card state, and docs/model-card.md from them. RUN=folder: the run that
# the shipped model was converted from, which is not in the repository; without it verify.txt stays as it is.
FOUND := docs/model-card
# What int8 gains depends on the processor: two files, of those with dot products of bytes and of those without.
VNNI := $(shell grep -q _vnni /proc/cpuinfo 2>/dev/null && echo -vnni)
# Where it has them and can hide them, both kinds of processor are measured here.
HIDDEN := $(if $(VNNI),$(shell grep -q cpuid_fault /proc/cpuinfo && command -v cc >/dev/null && echo yes))
WITHOUT := $(BIN)/python tests/x86_64/without_vnni.py
VERIFY = $(BIN)/parfocal convert $(RUN) --verify edge/models/default.tflite
LOOP := $(BIN)/python -m train.closed_loop

figures: $(VENV)/.for-test
	mkdir -p $(FOUND)
	$(BIN)/parfocal evaluate default synthetic --json >$(FOUND)/frames.json
	$(BIN)/parfocal evaluate default synthetic --optics fixed --json >$(FOUND)/frames-fixed.json
	$(LOOP) simulated --optics random --runs 1000 --fields 100 --empty-runs 0 --json >$(FOUND)/loop.json
	$(LOOP) simulated --optics fixed --json >$(FOUND)/loop-fixed.json
	$(LOOP) stacks ../shared/data/zstacks --json >$(FOUND)/stacks.json
	$(LOOP) stacks ../shared/data/zstacks --network-only --pixel-um 0.25 --json >$(FOUND)/stacks-network.json
	for step in 0.5 1 2; do $(LOOP) stacks ../shared/data/zstacks/blood_0152 --network-only --step-um $$step $(ASSUMED) --json \
		>$(FOUND)/blood-$$step.json || exit; done
	$(BIN)/python -m train.calibration_study --microscopes 100 --json >$(FOUND)/calibration.json
	$(BIN)/python -m train.adapt_figures --json >$(FOUND)/adapt.json
	$(BIN)/python -m train.adapt_figures --measure-focus --json >$(FOUND)/adapt-measured.json
	$(BIN)/python -m train.adapt_figures --stack $(BLOOD) $(ASSUMED) --json >$(FOUND)/adapt-blood.json
	$(BIN)/python -m convert.speed default --json >$(FOUND)/speed$(VNNI).json
	[ -z "$(HIDDEN)" ] || $(WITHOUT) $(BIN)/python -m convert.speed default --json >$(FOUND)/speed.json
	$(BIN)/python tests/arm64/emulated.py >$(FOUND)/arm64.txt
	[ -z "$(RUN)" ] || $(VERIFY) >$(FOUND)/verify$(VNNI).txt
	[ -z "$(RUN)" ] || [ -z "$(HIDDEN)" ] || $(WITHOUT) $(VERIFY) >$(FOUND)/verify.txt
	$(BIN)/python -m train.model_card

# What is said of the service. The first compares two programs: nothing else should run meanwhile.
service-figures: $(VENV)/.for-test
	$(BIN)/python tests/service/startup.py
	$(BIN)/python tests/service/endurance.py 1000
	PYTHONPATH=tests $(BIN)/python tests/service/fuzz.py 2000
	$(BIN)/python -m train.hold_day
	$(BIN)/python tests/browser/screenshots.py runs/pages

# What docs/benchmarks.md states. The latencies are this machine's: nothing else should run meanwhile.
BENCH := docs/bench

bench-figures: $(VENV)/.for-test
	mkdir -p $(BENCH)
	$(BIN)/parfocal bench latency --out $(BENCH)/latency.json --plot $(BENCH)/latency.png
	$(BIN)/parfocal bench focus --runs 1000 --seed 1 --json --plot $(BENCH)/focus.png >$(BENCH)/focus.json
	$(BIN)/parfocal bench focus --runs 300 --seed 1 --compensation one-sided --json \
		--strategies parfocal,openflexure-fast,oracle >$(BENCH)/focus-one-sided.json
	$(BIN)/parfocal bench focus --runs 16 --seed 1 --faults --json \
		--strategies parfocal,openflexure-fast,brent,oracle >$(BENCH)/focus-faults.json
	$(BIN)/parfocal bench growth --json --plot $(BENCH)/growth.png >$(BENCH)/growth.json
	$(BIN)/python -m train.throughput --json >$(BENCH)/training.json
	$(BIN)/python -m edge.bench.page --write

# The study of docs/training.md, into runs/study. WEIGHTS: ImageNet weights of MobileNetV2, a file or "imagenet".
WEIGHTS ?= ../shared/weights/mobilenetv2_1.00_imagenet_no_top.npz
STUDY := runs/study
TRAIN_STUDY := $(BIN)/parfocal train $(STUDY)/data --labels jiang41

study: $(VENV)/.for-test
	rm -rf $(STUDY)
	mkdir -p $(STUDY)
	$(BIN)/parfocal simulate $(STUDY)/data --layout jiang --slides 24 --locations 2 --size 448 --seed 1
	$(TRAIN_STUDY) --out $(STUDY)/parfocal --recipe parfocal --weights $(WEIGHTS) --size 160 --epochs 8
	$(TRAIN_STUDY) --out $(STUDY)/paper --recipe paper --weights $(WEIGHTS) --epochs 8 --split $(STUDY)/parfocal/split.json
	$(BIN)/parfocal compare $(STUDY)/parfocal $(STUDY)/paper --out $(STUDY)/recipes
	$(BIN)/parfocal simulate $(STUDY)/small --layout jiang --slides 4 --locations 1 --size 256 --seed 3
	for network in mobilenetv2 resnet50 vgg16; do \
		$(BIN)/parfocal train $(STUDY)/small --recipe train/studies/networks.toml --out $(STUDY)/$$network --network $$network \
			--weights scratch || exit; \
	done
	$(BIN)/parfocal compare $(STUDY)/mobilenetv2 $(STUDY)/resnet50 $(STUDY)/vgg16 --out $(STUDY)/networks

# Each part is labelled by its own sharpest plane, since the field is tilted; a strip of the left half chooses the epoch.
HALVES := runs/halves
BLOOD := ../shared/data/zstacks/blood_0152
ASSUMED := --objective 100x1.25oil --pixel-um 0.08

halves: $(VENV)/.for-test
	rm -rf $(HALVES)
	mkdir -p $(HALVES)
	$(BIN)/parfocal import-stack $(BLOOD) $(HALVES)/left --crop 0,0,640,1200 --focus measure
	$(BIN)/parfocal import-stack $(BLOOD) $(HALVES)/strip --crop 672,0,288,1200 --focus measure
	$(BIN)/parfocal import-stack $(BLOOD) $(HALVES)/right --crop 992,0,928,1200 --focus measure
	$(BIN)/parfocal train $(HALVES)/left $(HALVES)/strip $(HALVES)/right --out $(HALVES)/run \
		--recipe train/studies/halves.toml --split train/studies/halves.json $(ASSUMED) --weights $(WEIGHTS)
	$(BIN)/parfocal report $(HALVES)/run

# The virtual machine of tests/vm, the container of tests/systemd, the arm64 user lands of tests/arm64 and the browser of
# tests/browser: what builds them, and what runs them. The boots of the service take as long as all the others.
VM_PACKAGES := qemu-system-x86 seabios ipxe-qemu mmdebstrap e2fsprogs qemu-user-static arch-test systemd-container \
	openssh-client shellcheck
BOOT_PACKAGES := $(VM_PACKAGES) chromium
BOOTS := tests/vm/test_vm_service.py tests/systemd/test_install.py tests/arm64/test_install_arm64.py

vm-tools:
	@[ "$$(id -u)" = 0 ] || { echo "run: sudo make vm-tools" >&2; exit 1; }
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(VM_PACKAGES)

vm-figures: $(VENV)/.for-test
	PARFOCAL_VM=require $(BIN)/python -m pytest -q tests/vm tests/systemd tests/arm64 $(BOOTS:%=--ignore=%)

boot-tools:
	$(MAKE) vm-tools VM_PACKAGES="$(BOOT_PACKAGES)"

boot-figures: $(VENV)/.for-test
	PARFOCAL_BROWSER=require PARFOCAL_VM=require $(BIN)/python -m pytest -q tests/browser $(BOOTS)

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache demo.png
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Editable, so that what runs is always this tree and never a stale copy of it.
$(VENV)/.for-demo: $(VENV)/.made setup.py pyproject.toml
	$(BIN)/python -m pip install -e '.[device,serve,plot]'
	@touch $@

$(VENV)/.for-test: $(VENV)/.made setup.py pyproject.toml
	$(BIN)/python -m pip install -e '.[device,serve,plot,train,test]'
	@touch $@ $(VENV)/.for-demo

# The stamp comes last: an environment whose making was interrupted is made again from nothing.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; try: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { \
		echo "Parfocal needs Python 3.10 to 3.13, but $(PYTHON) is $$($(PYTHON) -V); try: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$package; \
		else \
			echo "$(PYTHON) cannot make virtual environments; run: sudo apt-get install -y $$package" >&2; exit 1; \
		fi; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@
