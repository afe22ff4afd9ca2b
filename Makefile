# build-image: what can be done here. Everything installs what it needs (Debian 12, Ubuntu 22.04+).
SHELL := /bin/bash
PREFIX ?= /usr/local
CARGO ?= cargo
TARGET ?= $(or $(CARGO_TARGET_DIR),target)

.PHONY: all demo test lint advisories install dist deb session bench fuzz soak tools clean
all:
	$(CARGO) build --workspace --locked

# What tests and demo need beside Rust: qemu, xorriso and the like.
tools:
	tests/install-tools

# From an installer ISO to an image that the emulated cloud lists, and the proof that it is the same disk.
demo: tools
	$(CARGO) build --workspace --locked
	tests/demo/run

# The lint, then every ring of tests; what cannot run here fails instead of being skipped.
test: tools lint
	tests/install-tools interop
	BUILD_IMAGE_NO_SKIP=1 $(CARGO) test --workspace --locked
	$(CARGO) build --workspace --locked
	tests/interop/run
	tests/bench/instructions

# Fast checks first: format, licences and sources take seconds.
lint:
	$(CARGO) fmt --all --check
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check licenses bans sources; \
	else echo "cargo-deny is not installed: licences and sources were not checked (cargo install cargo-deny --locked)"; fi
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# Known vulnerabilities of the dependencies. Needs cargo-deny, and the network for the database of advisories.
advisories:
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny --locked check advisories

install:
	$(CARGO) build --workspace --release --locked
	.ci/stage "$(TARGET)/release" "$(DESTDIR)$(PREFIX)"

# A release in the folder `dist`: an archive, a Debian package, the list of what is in them (CycloneDX) and their sums.
dist deb:
	CARGO="$(CARGO)" .ci/dist

# The picture of a session in the README, from a real run.
session:
	$(CARGO) build --workspace --locked
	tests/demo/record $(TARGET)/debug docs/session.svg

# Everything beside its peers, in one run on a quiet machine; writes docs/performance.md. About half an hour; a look at
# whether it works: BENCH_QUICK=1. Single parts: tests/bench/run PART…
bench: tools
	tests/install-tools bench
	$(CARGO) build --workspace --release --locked
	$(CARGO) build --release --locked -p build-image-disk -p build-image-emulator-alibaba --examples
	$(CARGO) build --locked -p build-image-emulator-alibaba --example hot_loops
	tests/bench/instructions
	tests/bench/run
	$(TARGET)/release/examples/soak --requests 100 --bytes 1000000 --noise-seconds 0

# Hostile input for every reader, so many seconds each; needs a nightly compiler and cargo-fuzz, and says so.
FUZZ_SECONDS ?= 600
fuzz: tools
	FUZZ_JOBS=$(or $(FUZZ_JOBS),$(shell nproc)) tests/fuzz/run $(FUZZ_SECONDS)

# Long runs: two release builds in two folders that must be equal, the package on a clean Debian, 1,000 instances of every provider (also under valgrind), 20,000 requests and 10 GB, ten minutes of noise, plugins of
# other compilers and under sanitizers, ten minutes of hostile input per reader, the emulator's page in a browser.
soak: tools
	tests/install-tools interop
	tests/install-tools soak
	CARGO="$(CARGO)" .ci/dist --twice
	CARGO="$(CARGO)" .ci/dist
	tests/deb-on-clean-root dist/*.deb
	BUILD_IMAGE_SOAK_CYCLES=1000 $(CARGO) test --locked -p build-image --test e2e -- --nocapture instances_that_come
	BUILD_IMAGE_SOAK_CYCLES=20 BUILD_IMAGE_SOAK_RUNNER="valgrind -q --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=9" \
	  $(CARGO) test --locked -p build-image --test e2e -- --nocapture instances_that_come
	BUILD_IMAGE_SOAK_KILLS=1 $(CARGO) test --locked -p build-image --test e2e -- --nocapture killed_at_any_change
	BUILD_IMAGE_SOAK_SEAMS=1 $(CARGO) test --locked -p build-image --test e2e -- --nocapture every_edge_between
	BUILD_IMAGE_SOAK_LOTTERY=1 $(CARGO) test --locked -p build-image --test e2e -- --nocapture interrupted_replacement
	$(CARGO) build --release --locked -p build-image-emulator-alibaba --bins --example soak
	$(TARGET)/release/examples/soak
	tests/abi/matrix
	tests/abi/sanitize
	@if command -v cargo-fuzz >/dev/null; then $(MAKE) fuzz; \
	else echo "cargo-fuzz is not installed: no reader was fuzzed (cargo install cargo-fuzz --locked)"; fi
	@if command -v chromium >/dev/null; then tests/interop/run --browser $(TARGET)/release/build-image-emulator-alibaba; \
	else echo "chromium is not installed: the emulator's page was not looked at"; fi

clean:
	$(CARGO) clean
