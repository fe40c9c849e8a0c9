# Two commands matter: `make run` shows stoa at work, `make test` proves it. Both install what is missing first.
SHELL := /bin/bash
CARGO ?= cargo
STOA_RELEASE := target/release/stoa
STOA_DEBUG := target/debug/stoa
PYTEST := .stoa/tools/venv/bin/python -m pytest

.PHONY: run test lint unit e2e bench tools-run tools-test tools-bench release debug clean help

help:
	@echo "make run    release build, a one-machine cluster, one workload through each face"
	@echo "make test   format, lints, tidiness, unit and property tests, end-to-end stories"
	@echo "make bench  the figures of the README, each beside a peer or a limit"

run: tools-run release
	@scripts/demo.sh

test: lint unit e2e

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) run -q --locked -p xtask -- tidy
	$(CARGO) run -q --locked -p xtask -- gen --check

unit: tools-run
	@if command -v cargo-nextest >/dev/null; then \
	  $(CARGO) nextest run --workspace --locked --no-fail-fast; \
	else \
	  $(CARGO) test --workspace --locked --no-fail-fast -- --test-threads=1; \
	fi

debug:
	$(CARGO) build --locked -p stoa -p stoa-kube-client

release:
	$(CARGO) build --release --locked -p stoa

e2e: tools-test debug
	STOA_BIN=$(STOA_DEBUG) $(PYTEST) -q tests

bench: tools-bench release
	@bench/run.sh

tools-run:
	@scripts/tools.sh run

tools-test:
	@scripts/tools.sh test

tools-bench:
	@scripts/tools.sh bench

clean:
	$(CARGO) clean
	rm -rf .stoa
