# build-image: what can be done here. Everything installs what it needs (Debian 12, Ubuntu 22.04+).
SHELL := /bin/bash
PREFIX ?= /usr/local
CARGO ?= cargo
TARGET ?= $(or $(CARGO_TARGET_DIR),target)

.PHONY: all demo check test lint advisories install dist deb container session bench fuzz soak tools clean
all:
	$(CARGO) build --workspace --locked

# What tests and demo need beside Rust: qemu, xorriso and the like.
tools:
	tests/install-tools

# From an installer ISO to an image that the emulated cloud lists, and the proof that it is the same disk.
demo: tools
	$(CARGO) build --workspace --locked
	tests/demo/run

# The first ring, seconds to a minute once built: format, lint, unit tests, the contract's tests. Uses cargo-nextest where it is installed.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-nextest >/dev/null; then $(CARGO) nextest run --workspace --locked --lib --bins; \
	else $(CARGO) test --workspace --locked --lib --bins; fi
	$(CARGO) test --locked -p build-image-plugin-api --tests
	$(CARGO) test --locked -p build-image --test e2e -- tidy:: contract::

# The lint, then every ring of tests; what cannot run here fails instead of being skipped.
test: tools lint
	tests/install-tools interop
	tests/install-tools openstack
	tests/install-tools aws
	BUILD_IMAGE_NO_SKIP=1 CARGO="$(CARGO)" tests/cargo-tests
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

# A container image of the Debian package, without an engine: an OCI image layout in a tar archive, in `dist`.
container: tools
	CARGO="$(CARGO)" .ci/dist
	.ci/container "$$(ls -t dist/*.deb | head -n 1)" dist/build-image.oci.tar

# The picture of a session in the README, from a real run.
session:
	$(CARGO) build --workspace --locked
	tests/demo/record $(TARGET)/debug docs/session.svg

# Everything beside its peers, in one run on a quiet machine; writes docs/internals/performance.md. About half an hour; a look at
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

# The long tests: all of them, or those that PART names, for example PART="seams lottery". tests/soak lists the parts.
soak: tools
	tests/install-tools interop
	tests/install-tools soak
	CARGO="$(CARGO)" FUZZ_SECONDS=$(FUZZ_SECONDS) tests/soak $(PART)

clean:
	$(CARGO) clean
