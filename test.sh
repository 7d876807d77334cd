#!/usr/bin/env bash
# Everything: format, lints, unit and property tests, conformance, simulation, end-to-end and kill tests, documents.
# Needs a network only on the first run: for the crates, and for the foreign clients that the interoperability tests drive.
#   ./test.sh clients     installs those clients and nothing else
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n=== %s\n' "$*"; }

# Where the tests look for what comes from PyPI and npm.
clients="$PWD/tests/interop/clients"
installed="${CARGO_TARGET_DIR:-target}/interop"

# Debian's packages, only when something is missing: what builds C, mosquitto, Node, Python's venv, Chromium, Java and what binds it to C,
# and what makes networks.
foreign_programs() {
    local missing=()
    command -v make >/dev/null || missing+=(make)
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    for program in mosquitto mosquitto_pub mosquitto_sub; do
        command -v "$program" >/dev/null || missing+=(mosquitto mosquitto-clients)
    done
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v java >/dev/null || missing+=(default-jre-headless)
    [ -e /usr/share/java/jna.jar ] || missing+=(libjna-java)
    command -v ip >/dev/null || missing+=(iproute2)
    command -v nft >/dev/null || missing+=(nftables)
    [ "${#missing[@]}" -ne 0 ] || return 0
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
    "${sudo[@]}" apt-get update -q
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# Each list of packages is installed once, and again when it has changed.
python_packages() {
    cmp -s "$1/requirements.txt" "$2/requirements.txt" && return
    mkdir -p "$2"
    python3 -m venv --clear "$2"
    "$2/bin/pip" install --quiet --disable-pip-version-check -r "$1/requirements.txt"
    cp "$1/requirements.txt" "$2/"
}

javascript_packages() { # list, directory
    cmp -s "$1/package-lock.json" "$2/installed.json" && return
    mkdir -p "$2"
    [ "$1" = "$2" ] || cp "$1"/package.json "$1"/package-lock.json "$1"/.npmrc "$2/"
    (cd "$2" && npm ci --silent --ignore-scripts)
    cp "$1/package-lock.json" "$2/installed.json"
}

# The SDK for the web is compiled each time: it takes seconds.
web_package() {
    local web="$PWD/client-sdk/web"
    javascript_packages "$web" "$web"
    (cd "$web" && npm run --silent build && npm run --silent bundle -- --log-level=warning)
}

foreign_clients() {
    foreign_programs
    python_packages "$clients" "$installed/venv"
    python_packages "$PWD/tests/vendors/clients" "$installed/vendors/venv"
    javascript_packages "$clients" "$installed/node"
    javascript_packages "$PWD/tests/vendors/clients" "$installed/vendors/node"
    javascript_packages "$PWD/tests/sdk/clients" "$installed/kotlin"
    web_package
}

step "foreign clients"
foreign_clients
mosquitto_pub --version 2>&1 | head -n 1 || true
if [ "${1:-}" = clients ]; then exit; fi

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

step "the HTTP APIs against their descriptions"
tests/http/schemathesis.sh

step "deployment files"
deploy/check.sh

step "a network with a NAT that forgets, for the tests of the heartbeat"
nat="reveille-test-$$"
if ip netns add "$nat" && ip netns exec "$nat" nft 'table ip t { chain c { type nat hook postrouting priority srcnat; masquerade; }
}'; then
    echo "can be made here"
else
    echo "SKIPPED: needs root and a kernel with network namespaces, nftables and connection tracking"
fi
ip netns del "$nat" 2>/dev/null || true

# A file system of its own is shut down under load; who is not root does without. With cargo test as with nextest below: one set of features.
step "power cuts"
if [ "$(id -u)" -eq 0 ] && losetup --find >/dev/null 2>&1 && command -v mkfs.ext4 >/dev/null; then
    cargo test --quiet --workspace --test kill -- --ignored power
else
    echo "SKIPPED: needs root, loop devices and mkfs.ext4"
fi

step "tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --workspace
else
    cargo test --workspace --lib --bins --tests --examples
fi
