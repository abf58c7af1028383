# The two commands of the README are `make demo` and `make test`; `make check` is the part of the latter that
# boots no guest.
SHELL := /bin/bash
.DEFAULT_GOAL := build

ARCH := $(shell uname -m)
AGENT_TARGET := $(ARCH)-unknown-linux-musl
AGENT := agent/target/$(AGENT_TARGET)/release

.PHONY: build agent dist check check-proto check-agent check-package kernel demo test e2e bench clean

build: agent dist

node_modules: package.json package-lock.json
	# Not npm ci: it refuses a lock file without the binaries of other platforms, which not every registry
	# mirror has. This installs what the lock file says, too, and leaves it alone.
	npm install --no-save --no-audit --no-fund
	@touch node_modules

agent:
	rustup target list --installed 2>/dev/null | grep -q $(AGENT_TARGET) || rustup target add $(AGENT_TARGET)
	cd agent && cargo build --release --locked --target $(AGENT_TARGET)
	install -D -m 755 -t dist/agent/$(ARCH) $(addprefix $(AGENT)/,firectl-agent firectl-share firectl-network)

dist: node_modules
	npm run --silent build

# Types, lint, dead code, unit tests, the agent's own checks, generated code up to date, the package's shape.
check: node_modules
	npm run --silent typecheck
	npm run --silent lint
	npm run --silent dead
	$(MAKE) --no-print-directory check-proto check-agent dist check-package
	npm test

check-proto: node_modules
	npm run --silent proto:lint
	npm run --silent proto
	git diff --exit-code -- src/guest/gen

check-agent:
	cd agent && cargo fmt --check
	cd agent && cargo clippy --locked --all-targets -- -D warnings
	cd agent && cargo test --locked --quiet

check-package: dist
	npx publint --strict
	npx attw --pack . --profile esm-only --quiet

# firectl's own guest kernel, a job of its own: some minutes, and nothing if kernel/ is as it was. Its directory is
# what `firectl kernel add` takes, and the tests with FIRECTL_E2E_KERNEL.
kernel:
	@kernel/build.sh --cache .cache/kernel $(KERNEL_FLAGS)

demo:
	scripts/demo.sh

test:
	scripts/test.sh

e2e: build
	scripts/test.sh e2e

clean:
	rm -rf dist coverage agent/target
