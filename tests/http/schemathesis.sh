#!/usr/bin/env bash
# The operations API against its own description: schemathesis sends what the description allows, and what it does not,
# to a broker that runs, and finds no 5xx and no answer that is not described. Under two minutes.
# Needs the program in target/debug, and python3 with venv; takes schemathesis from PyPI on the first run.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

VENV=$root/target/schemathesis
VERSION=4.32.5
if [ ! -x "$VENV/bin/schemathesis" ]; then
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet "schemathesis==$VERSION"
fi

directory=$(mktemp -d)
"${CARGO_TARGET_DIR:-target}/debug/reveille" run --mqtt 127.0.0.1:0 --http 127.0.0.1:0 --data-dir "$directory/data" \
    >"$directory/out" 2>"$directory/err" &
broker=$!
finish() {
    kill "$broker" 2>/dev/null || true
    wait "$broker" 2>/dev/null || true
    rm -rf "$directory"
}
trap finish EXIT

for _ in $(seq 600); do
    if grep -q '^ready$' "$directory/out"; then break; fi
    kill -0 "$broker" 2>/dev/null || { cat "$directory/err" >&2; exit 1; }
    sleep 0.1
done
http=$(sed -n 's/^http //p' "$directory/out")
key=$(sed -n 's/^admin-key //p' "$directory/out")

# Not /drain: it would end the program. `ignored_auth` tries every route without a key and with a wrong one; it has a run of
# its own because wrong keys are counted.
run() {
    # Its caches stay with the rest of this run.
    (cd "$directory" && "$VENV/bin/schemathesis" run "http://$http/v1/broker/openapi.json" --url "http://$http" \
        --header "Authorization: Bearer $key" --exclude-path /v1/broker/drain --seed 1 --no-color \
        --request-timeout 15 --continue-on-failure --warnings off "$@")
}
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks=$checks,response_schema_conformance
run --phases examples,coverage,fuzzing,stateful --checks "$checks" --max-examples 25 --max-time 50
run --phases fuzzing --checks ignored_auth --max-examples 1 --include-method GET --max-time 10

kill -0 "$broker" || { echo "the program ended" >&2; cat "$directory/err" >&2; exit 1; }
