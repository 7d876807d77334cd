#!/usr/bin/env bash
# Builds RMQTT as published on crates.io, below target/, with the smallest program that its documentation shows. A workspace
# of its own: nothing of it gets into ours.
set -euo pipefail
cd "$(dirname "$0")/../.."
root="${CARGO_TARGET_DIR:-$PWD/target}/peers"
mkdir -p "$root/rmqtt"
cat >"$root/rmqtt/Cargo.toml" <<TOML
[package]
name = "rmqtt-peer"
version = "0.1.0"
edition = "2024"

[[bin]]
name = "rmqtt-peer"
path = "$PWD/load-tests/peers/rmqtt.rs"

[workspace]

[dependencies]
rmqtt = { version = "=0.24.0", features = ["retain", "shared-subscription"] }
tokio = { version = "1", features = ["rt-multi-thread", "macros"] }
TOML
cargo install --path "$root/rmqtt" --root "$root" --target-dir "$root/build" "$@"
