# Two commands do everything: `make demo` and `make test`. uv is taken from PyPI when it is not on the PATH.
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
DATA ?= ../shared/data

.PHONY: setup demo test check docs bench scores wheelhouse vendor clean

setup: .venv/.done

.venv/.done: pyproject.toml uv.lock | uv
	$(UV) sync --extra train --extra review
	@touch $@

.PHONY: uv
uv:
	@command -v $(UV) >/dev/null || (python3 -m venv .uv && .uv/bin/pip install --quiet uv)

demo: setup
	$(RUN) hybridseg demo --folder demo

test: check docs
	OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses auto --maxprocesses 4 --dist loadfile --durations 20
	$(RUN) pytest --nbmake notebooks

# all extras: Clay and Prithvi are tested in their real architecture, which terratorch has (extra geofm); but not Ray, whose
# tests take many minutes on two busy cores: `uv sync --extra ray && pytest tests/run/test_actors.py`
#
# the pages of docs/ as a site, in site/: broken links and names that are gone end it
docs: setup
	$(UV) sync --quiet --all-extras --no-extra ray
	$(RUN) mkdocs build --strict --quiet

check: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports

# accuracy of the embedded models on the places kept from training: benchmarks/results, and the tables of this README
scores: setup
	$(RUN) python -m benchmarks.refiner $(DATA)
	$(RUN) python -m benchmarks.memory_track $(DATA)
	$(RUN) python -m benchmarks.track $(DATA)
	$(RUN) python -m benchmarks.calibration $(DATA)
	$(RUN) python -m benchmarks.accuracy $(DATA)
	$(RUN) python -m benchmarks.grain $(DATA)
	$(RUN) python -m benchmarks.publish

# speed as ratios, memory, a million objects, kills (hours on 2 cores)
bench: setup
	$(RUN) python -m benchmarks.speed
	$(RUN) python -m benchmarks.generator
	$(RUN) python -m benchmarks.start
	$(RUN) python -m benchmarks.rates
	$(RUN) python -m benchmarks.memory
	$(RUN) python -m benchmarks.objects
	$(RUN) python -m benchmarks.kills
	$(RUN) python -m benchmarks.evaluate_speed
	$(RUN) python -m benchmarks.once $(DATA)

# all that pip needs on a machine without a network, in wheelhouse/: hybridseg, torch without CUDA, sam2 built as a wheel
TORCH ?= --index-url https://download.pytorch.org/whl/cpu
wheelhouse: uv
	$(UV) build --wheel --out-dir wheelhouse
	python3 -m venv --clear wheelhouse/.venv
	wheelhouse/.venv/bin/pip install --quiet torch torchvision $(TORCH)
	wheelhouse/.venv/bin/pip install --quiet setuptools wheel
	wheelhouse/.venv/bin/pip freeze | grep -i '^torch' > wheelhouse/torch.txt
	wheelhouse/.venv/bin/pip wheel --quiet --wheel-dir wheelhouse -r wheelhouse/torch.txt $(TORCH)
	SAM2_BUILD_CUDA=0 wheelhouse/.venv/bin/pip wheel --quiet --no-build-isolation --wheel-dir wheelhouse \
	  --find-links wheelhouse --constraint wheelhouse/torch.txt wheelhouse/hybridseg-*.whl
	rm -rf wheelhouse/.venv wheelhouse/torch.txt

# the page's libraries again from npm, in the versions and with the hashes of vendor/README.md
vendor:
	sh hybridseg/reviewing/static/vendor/fetch.sh

clean:
	rm -rf .venv .uv demo site
