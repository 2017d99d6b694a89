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

lint: ## Check the format and run clippy
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

fmt: ## Format the code
	cargo fmt

bench: build ## Measure the relay beside a direct connection: ratios, not absolute figures
	cargo bench --locked

clean: ## Remove what was built
	cargo clean
	rm -rf tests/sdk/node_modules tests/.venv
