# Everything here works on a fresh Debian 12 machine. `make deps` installs what is missing and nothing else; the other
# targets need no network once it has run and the crates are there.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# rustup puts cargo here. First, since a distribution's cargo may be there too and be too old.
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help deps build demo test fuzz check bench p4 docs clean

help: ## this list
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /  make \1\t/' | expand -t 16

deps: ## install what is missing: DPDK, clang, network tools, Rust
	scripts/deps

build: deps ## the release binary, target/release/carom
	cargo build --release -p carom

demo: deps ## a small network in namespaces with real traffic through Carom (root); TARGET=softnic, bmv2 or none
	cargo build --release -p carom -p bmv2-tests
	CAROM_TARGET=$(or $(TARGET),softnic) CAROM_BIN=$(CARGO_TARGET_DIR)/release/carom $(CARGO_TARGET_DIR)/release/demo

test: deps ## all tests; end-to-end ones need root and run one at a time
	scripts/test

fuzz: deps ## random tests with new seeds for MINUTES=10, or until one fails
	scripts/fuzz $(MINUTES)

check: ## format, lints, documentation, licences
	scripts/check

bench: deps ## all benchmarks and a report with plots, target/bench/report.html; QUICK=1: two minutes; CPUS=1-3: on these cores
	scripts/bench

p4: ## the P4 program's artifacts in p4/build/, where there is a p4c; ARCH=tna: those for Tofino
	scripts/p4$(if $(ARCH),-$(ARCH))

docs: ## the book, docs/book/index.html
	command -v mdbook >/dev/null || cargo install mdbook --locked --no-default-features
	mdbook build docs

clean: ## remove what was built
	cargo clean
	rm -rf docs/book
