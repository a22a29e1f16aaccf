#!/bin/bash
# Holds the OpenAPI document against a running server, as an admin and as an ordinary user, with Schemathesis: no answer
# that the document does not name, no 5xx, no route without authentication, 405 with Allow for undeclared methods.
#
#   xtask/schemathesis.sh          run; `cargo xtask test api` builds first, and calls this
#   xtask/schemathesis.sh setup    only install it, in target/schemathesis
#
# What is asked is the same in each run (seed 1). Which checks are off, and why: xtask/schemathesis.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

venv=target/schemathesis
pins=xtask/schemathesis.txt
program=target/debug/bedplate
say() { echo "schemathesis: $*" >&2; }

install() {
  cmp -s "$pins" "$venv/installed.txt" && return
  say "installing it in $venv, once (100 MB)"
  # A python3 that comes before Debian's in PATH may lack what Debian's package installs for its own.
  local python=python3
  "$python" -c 'import ensurepip, venv' 2>/dev/null || python=/usr/bin/python3
  "$python" -m venv --clear "$venv" || {
    say "Debian's package python3-venv is missing: run xtask/setup.sh test"
    return 1
  }
  # Wheels alone, each held against its hash: nothing is built, and no code of a package runs here
  # before it is used.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
    --require-hashes -r "$pins"
  cp "$pins" "$venv/installed.txt"
}

install
[ "${1:-}" != setup ] || exit 0
[ -x "$program" ] || { say "$program is missing: run \`cargo xtask test api\`, which builds it"; exit 1; }

folder=$(mktemp -d)
server=
# shellcheck disable=SC2317 # called by the trap
finish() {
  local status=$?
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  [ "$status" = 0 ] || { say "the last lines of the server's log:"; tail -n 20 "$folder/log" >&2 || true; }
  rm -rf "$folder"
}
trap finish EXIT

address=127.$((RANDOM % 250 + 2)).$((RANDOM % 250)).$((RANDOM % 250 + 1))
url=https://$address:9470
echo 'no machine starts it' >"$folder/substrate"
cat >"$folder/server.yaml" <<END
state-dir: $folder/state
server-addresses: [$address]
api: {listen: '$address:9470'}
boot: {tftp: false, substrate: $folder/substrate, templates: $root/ipxe}
dhcp: {mode: 'off', subnets: [{network: 10.98.0.0/24, gateway: 10.98.0.254}]}
overlays: {shipped: $root/overlays, site: $folder/site}
END
"$program" server --config "$folder/server.yaml" 2>"$folder/log" &
server=$!

export XDG_CONFIG_HOME=/nonexistent BEDPLATE_CONTEXT="$folder/state/admin.yaml"
for step in $(seq 300); do
  ! "$program" version -o json 2>/dev/null | grep -q '"server": "0\.' || break
  kill -0 "$server" 2>/dev/null || { say "the server ended"; exit 1; }
  [ "$step" != 300 ] || { say "the server does not answer"; exit 1; }
  sleep 0.1
done

field() { "$venv/bin/python" -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }
field "$BEDPLATE_CONTEXT" ca >"$folder/ca.pem"
admin=$(field "$BEDPLATE_CONTEXT" token)

# Who asks, the token, and what is asked.
ask() {
  local who=$1 token=$2
  shift 2
  say "as $who"
  # There, for it keeps what it asked where it is started: `st replay ID` asks again.
  (cd "$venv" && ./bin/schemathesis --config-file "$root/xtask/schemathesis.toml" run "$url/v1/openapi.json" \
    --url "$url" --tls-verify "$folder/ca.pem" --header "Authorization: Bearer $token" \
    --seed 1 --workers 1 --generation-database none --no-color --warnings off "$@")
}
# Without the phase `stateful`: it takes names from lists, so it would revoke the token that it asks with.
failed=
ask 'an admin' "$admin" --phases examples,coverage,fuzzing --max-examples 8 || failed=yes
# Only now: what is asked as an admin may delete whom it finds.
"$program" user add prober --uid 65001 --gid 65001 >/dev/null
user=$("$program" token create of-this-lane --user prober)
# It finds its own token in the list of tokens, and would revoke it.
ask 'an ordinary user' "$user" --phases examples,fuzzing --max-examples 5 \
  --exclude-path '/v1/tokens/{name}' || failed=yes

# A token that was lost on the way would make all answers after it a 401, and nothing would have been tested.
for token in "$admin" "$user"; do
  status=$(curl --silent --output /dev/null --write-out '%{http_code}' --cacert "$folder/ca.pem" \
    --header "Authorization: Bearer $token" "$url/v1/whoami")
  [ "$status" = 200 ] || { say "the token ${token:0:8}… is refused at the end ($status): what came after that was not tested"; failed=yes; }
done
kill -0 "$server" 2>/dev/null || { say "the server has ended"; failed=yes; }
! grep -n 'panicked' "$folder/log" >&2 || { say "the server panicked"; failed=yes; }
[ -z "$failed" ] || exit 1
say "the document names every answer"
