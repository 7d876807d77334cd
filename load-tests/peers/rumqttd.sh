#!/usr/bin/env bash
# Builds rumqttd as published on crates.io, below target/. The load tests look for it there. Not with its own lock file: a
# crate in there does not build with the Rust of today.
set -euo pipefail
cd "$(dirname "$0")/../.."
root="${CARGO_TARGET_DIR:-$PWD/target}/peers"
cargo install rumqttd --version 0.20.0 --root "$root" --target-dir "$root/build" "$@"
