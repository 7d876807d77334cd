#!/usr/bin/env bash
# Everything: format, lints, unit and property tests, conformance, simulation, end-to-end and kill tests, documents.
# Needs a network only on the first run, for the crates and for Debian's mosquitto as a foreign client.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n=== %s\n' "$*"; }

foreign_clients() {
    if command -v mosquitto_pub >/dev/null && command -v mosquitto_sub >/dev/null && command -v mosquitto >/dev/null; then
        return
    fi
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" apt-get install -q -y --no-install-recommends mosquitto mosquitto-clients
}

step "foreign clients"
foreign_clients
mosquitto_pub --version 2>&1 | head -n 1 || true

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --quiet --workspace --all-targets -- -D warnings

step "the program, which the end-to-end tests start, and the tests"
cargo build --quiet --workspace --all-targets # one set of features: nothing is compiled twice

step "examples in the documentation"
cargo test --quiet --workspace --doc

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps

step "tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --workspace
else
    cargo test --workspace --lib --bins --tests --examples
fi
