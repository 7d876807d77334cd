#!/usr/bin/env bash
# Installs the peer of the scenario `pushes` below target/, from the Python package index.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -x target/aioapns/bin/python ] || python3 -m venv target/aioapns
target/aioapns/bin/pip install --quiet --disable-pip-version-check 'aioapns==4.0'
