# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test coverage docs soak mutants results clean

demo: $(VENV)/.installed  ## merge eight real experts, operate, and write out/demo/
	$(VENV)/bin/suture demo --out out/demo --replace

test: $(VENV)/.installed-dev  ## lint, types, tests
	$(VENV)/bin/python scripts/check.py lint types tests

coverage: $(VENV)/.installed-dev  ## which lines and branches the tests run
	$(VENV)/bin/python scripts/check.py coverage

docs: $(VENV)/.installed-dev  ## the documentation as a site, to open at out/site/index.html
	$(VENV)/bin/python scripts/check.py docs

SHARE ?= 1
soak: $(VENV)/.installed-dev  ## the gates of the tests as a long run; SHARE=0.01 makes a hundredth of it
	$(VENV)/bin/python scripts/soak.py --share $(SHARE)

mutants: $(VENV)/.installed-dev  ## change the code in small ways, and see whether the tests notice
	$(VENV)/bin/python scripts/mutants.py docs/results/mutation.md

results: demo  ## refresh what the documentation shows
	mkdir -p docs/results docs/images
	cp out/demo/table.md docs/results/nlp8-demo.md
	cp out/demo/figures/accuracy.png docs/images/accuracy.png
	$(VENV)/bin/suture build nlp8 --out out/nlp8-model --replace
	awk 'shown; /^---$$/ { shown = ++lines == 2 }' out/nlp8-model/README.md > docs/results/nlp8-model.md
	$(VENV)/bin/suture build vision8 --out out/vision8-model --replace
	awk 'shown; /^---$$/ { shown = ++lines == 2 }' out/vision8-model/README.md > docs/results/vision8-model.md

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (PyTorch is the large part) …"
	$(INSTALL) --editable '.[nlp8,vision8,report]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[nlp8,vision8,report,onnx,serve,dev,docs]'
	# Beside torch's builds for processors alone torchvision is not whole; tests of what needs it get it in a place of its own.
	$(INSTALL) --no-deps --upgrade --target $(VENV)/extras torchvision timm open_clip_torch ftfy wcwidth
	touch $@

clean:
	rm -rf $(VENV) out mutants build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
