#!/usr/bin/env bash
# Builds RMQTT as published on crates.io, below target/, with the smallest program that its documentation shows.
set -euo pipefail
cd "$(dirname "$0")/../.."
root="${CARGO_TARGET_DIR:-$PWD/target}/peers"
cargo install --path load-tests/peers/rmqtt --root "$root" --target-dir "$root/build" "$@"
