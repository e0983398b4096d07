# Two threads that spin beside another job make small nets several times slower: wait passively.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo serve test test-slow check format clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[serve,postgres,dev,onnx,keras,tabular]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/buckler demo

STORE := sqlite:///out/serve/store.db

serve: $(STAMP) out/demo/bundle/bundle.toml out/serve/keyed
	$(BIN)/buckler serve out/demo/bundle --store $(STORE)

out/demo/bundle/bundle.toml: | $(STAMP)
	$(BIN)/buckler demo

# A key for everything, printed this once: only its digest is kept.
out/serve/keyed: | $(STAMP)
	$(BIN)/buckler store init --store $(STORE)
	$(BIN)/buckler store key you --store $(STORE) \
		--role infer --role review --role operate --role admin --role metrics
	touch $@

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist loadfile

# KServe's client asks for other versions than ours: an environment of its own.
KSERVE := out/kserve/.installed

$(KSERVE):
	test -x out/kserve/bin/python || $(PYTHON) -m venv out/kserve
	out/kserve/bin/python -m pip install --quiet kserve==0.21.0
	touch $@

# The slow tests need the image example's packages and Debian's chromium; one that is skipped fails.
test-slow: $(STAMP) $(KSERVE)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[serve,postgres,dev,onnx,keras,tabular,imagenet-demo]'
	$(BIN)/python -m pytest -q -m slow --timeout 600 --no-skips

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf out build .pytest_cache .mypy_cache .ruff_cache .hypothesis
