#!/usr/bin/env bash
# Both HTTP APIs against their own descriptions: schemathesis sends what a description allows, and what it does not, to a
# program that runs, and finds no 5xx and no answer that is not described. About two minutes.
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
process=$!
finish() {
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
    rm -rf "$directory"
}
trap finish EXIT

for _ in $(seq 600); do
    if grep -q '^ready$' "$directory/out"; then break; fi
    kill -0 "$process" 2>/dev/null || { cat "$directory/err" >&2; exit 1; }
    sleep 0.1
done
http=$(sed -n 's/^http //p' "$directory/out")
key=$(sed -n 's/^admin-key //p' "$directory/out")

# `ignored_auth` tries every route without a key and with a wrong one; it has a run of its own because wrong keys are counted.
run() { # which description, and how
    local of=$1
    shift
    # Its caches stay with the rest of this run.
    (cd "$directory" && "$VENV/bin/schemathesis" run "http://$http/$of/openapi.json" --url "http://$http" \
        --header "Authorization: Bearer $key" --seed 1 --no-color \
        --request-timeout 15 --continue-on-failure --warnings off "$@")
}
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks=$checks,response_schema_conformance

# Not /drain: it would end the program.
broker=v1/broker
run $broker --exclude-path /v1/broker/drain --phases examples,coverage,fuzzing,stateful --checks "$checks" --max-examples 25 --max-time 40
run $broker --exclude-path /v1/broker/drain --phases fuzzing --checks ignored_auth --max-examples 1 --include-method GET --max-time 10

# An app of its own, so that removing it harms no other run; what calls vendors (502 is their word) is tested against fakes. The
# probes of health take no part: /readyz says 503 where that is so. Streams never end; tests of their own read them.
bridge=v1
not_here=(--exclude-path-regex '^/(healthz|readyz|metrics)$|apns-channels|:test$|/v1/vendors/|/events$|/stream$')
run $bridge "${not_here[@]}" --phases examples,coverage,fuzzing --checks "$checks" --max-examples 8 --max-time 70
run $bridge "${not_here[@]}" --phases fuzzing --checks ignored_auth --max-examples 1 --include-method GET --max-time 10

kill -0 "$process" || { echo "the program ended" >&2; cat "$directory/err" >&2; exit 1; }
