# Two commands do everything: `make demo` and `make test`. uv is taken from PyPI when it is not on the PATH.
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
DATA ?= ../shared/data

.PHONY: setup demo test check notebook bench scores clean

setup: .venv/.done

.venv/.done: pyproject.toml uv.lock | uv
	$(UV) sync --extra train
	@touch $@

.PHONY: uv
uv:
	@command -v $(UV) >/dev/null || (python3 -m venv .uv && .uv/bin/pip install --quiet uv)

demo: setup
	$(RUN) hybridseg demo --folder demo
	@echo "The picture: demo/buildings.png"

test: check
	$(RUN) pytest
	$(RUN) pytest --nbmake notebooks

check: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports

bench: setup
	$(RUN) python -m benchmarks.accuracy $(DATA)
	$(RUN) python -m benchmarks.memory $(DATA)

clean:
	rm -rf .venv .uv demo
