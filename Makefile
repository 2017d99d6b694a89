# Everything that people and CI run, by name. `make` alone prints this list.

.DEFAULT_GOAL := help
.PHONY: help build run test lint fmt bench clean

help: ## Print this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: ## Build target/release/claude-relay, the pages inside
	cargo build --release --locked

run: build ## Build and start the relay: no configuration needed
	target/release/claude-relay

test: ## Run all tests, on the release build
	tests/prepare.sh
	cargo test --release --locked
	npm --prefix web test
	npm --prefix tests/ui test

lint: web/node_modules ## Check the format, run clippy, eslint and the type checker
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	npm --prefix web run check
	npm --prefix web run lint

fmt: web/node_modules ## Format the code
	cargo fmt
	npm --prefix web run fmt

web/node_modules: web/package-lock.json
	npm --prefix web ci --no-audit --no-fund --loglevel=error
	touch $@

bench: build ## Measure the relay beside a direct connection: ratios, not absolute figures
	cargo bench --locked

clean: ## Remove what was built
	cargo clean
	rm -rf tests/sdk/node_modules tests/ui/node_modules tests/ui/shots tests/.venv web/node_modules web/dist
