#!/usr/bin/env bash
# Whether the files in deploy/ are what their readers take. One line for each check: ok, FAILED, or not checked and why.
# Ends with 1 when one failed. $REVEILLE is the program, by default the debug build.
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
program="${REVEILLE:-$target/debug/reveille}"
tools="$target/deploy-check"
bin="$tools/bin"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
failures=0

# Installed once, and again when the list has changed.
install_tools() {
    cmp -s deploy/requirements.txt "$tools/installed.txt" && return
    python3 -m venv --clear "$tools" &&
        "$bin/pip" install --quiet --disable-pip-version-check -r deploy/requirements.txt &&
        cp deploy/requirements.txt "$tools/installed.txt"
}

# check NAME COMMAND...: what the command says is shown when it fails.
check() {
    local name=$1
    shift
    if "$@" >"$scratch/said" 2>&1; then
        printf 'ok           %s\n' "$name"
    else
        printf 'FAILED       %s\n' "$name"
        sed 's/^/             /' "$scratch/said"
        failures=$((failures + 1))
    fi
}

not_checked() { printf 'not checked  %s: %s\n' "$1" "$2"; }

# systemd wants the program to exist; something that does stands in for it. What it only warns of is a failure too.
unit() {
    sed 's|/usr/local/bin/reveille|/bin/true|' deploy/systemd/reveille.service >"$scratch/reveille.service"
    local said
    said=$(systemd-analyze verify --man=no "$scratch/reveille.service" 2>&1) || { printf '%s\n' "$said"; return 1; }
    # Units of the machine itself are not ours to judge.
    ! grep -F 'reveille.service' <<<"$said"
}

# 0 is as locked up as a service can be, 100 not at all; tenths of what systemd shows.
unit_is_hardened() {
    systemd-analyze security --offline=true --threshold=20 --no-pager "$scratch/reveille.service"
}

# The configurations inside of YAML files, each to a file of its own.
take_out_configurations() {
    "$bin/python" - "$scratch" <<'PYTHON'
import pathlib, sys, yaml
out = pathlib.Path(sys.argv[1])
compose = yaml.safe_load(open("deploy/compose/compose.yml"))
(out / "compose.toml").write_text(compose["configs"]["reveille"]["content"])
for document in yaml.safe_load_all(open("deploy/kubernetes/reveille.yaml")):
    if document["kind"] == "ConfigMap":
        (out / "kubernetes.toml").write_text(document["data"]["reveille.toml"])
PYTHON
}

# The program reads the files that a configuration names: an empty password file and a certificate of today stand in for them.
make_stand_ins() {
    touch "$scratch/password_file"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
        -keyout "$scratch/key" -out "$scratch/certificate"
}

configuration() {
    sed -E "s#^(password_file|certificate|key) = \"[^\"]*\"#\1 = \"$scratch/\1\"#" "$1" >"$scratch/checked.toml"
    "$program" check-config "$scratch/checked.toml"
}

if install_tools >"$scratch/said" 2>&1; then
    check "Dockerfile (hadolint)" "$bin/hadolint" --failure-threshold info deploy/docker/Dockerfile
    check "compose.yml (schema of Compose)" "$bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose/compose.yml
    check "kubernetes (schemas of Kubernetes)" "$bin/kubernetes-validate" --strict deploy/kubernetes/reveille.yaml
    check "YAML (yamllint)" "$bin/yamllint" --strict --config-file deploy/yamllint.yml deploy
    check "configurations inside of YAML" take_out_configurations
else
    sed 's/^/             /' "$scratch/said"
    not_checked "Dockerfile, compose.yml, kubernetes, YAML" "deploy/requirements.txt could not be installed"
fi

if command -v systemd-analyze >/dev/null; then
    check "reveille.service (systemd-analyze verify)" unit
    check "reveille.service (systemd-analyze security)" unit_is_hardened
else
    not_checked "reveille.service" "no systemd-analyze here"
fi

if command -v promtool >/dev/null; then
    check "alerts.yml (promtool)" promtool check rules deploy/prometheus/alerts.yml
else
    not_checked "expressions of alerts.yml" "no promtool here (Debian: prometheus)"
fi

check "reveille.json (JSON)" python3 -m json.tool docs/grafana/reveille.json /dev/null

for file in deploy/reveille.toml.example "$scratch/compose.toml" "$scratch/kubernetes.toml"; do
    name="$(basename "$file") (reveille check-config)"
    if [ ! -x "$program" ]; then
        not_checked "$name" "no program at $program"
    elif ! make_stand_ins 2>"$scratch/said"; then
        not_checked "$name" "no certificate can stand in: $(tail -n 1 "$scratch/said")"
    elif [ ! -e "$file" ]; then
        not_checked "$name" "it could not be taken out of its YAML file"
    else
        check "$name" configuration "$file"
    fi
done

[ "$failures" -eq 0 ]
