#!/bin/bash
# Makes database.sql and shown.json: what the programs of commit 244c59b left when they were killed at
# work. As root: make.sh PROGRAMS CHECKOUT WORK, where PROGRAMS has `bedplate` and `sim-cluster` of that
# commit, built in CHECKOUT, and WORK is an empty directory. Each run has other ids and times, so what
# it makes replaces both files together.
set -euo pipefail
[ "${4:-}" = inside ] || exec unshare --mount "$0" "$1" "$2" "$3" inside
programs=$1 checkout=$2 work=$3 here=$(dirname "$(readlink -f "$0")")
mkdir -p "$work/sim" "$checkout/target/sim"
mount --bind "$work/sim" "$checkout/target/sim"

# Three nodes of four cores, a user ann, and some finished workflows. It waits for what comes below.
"$programs/sim-cluster" work --nodes 3 --tasks 20 > "$work/sim.log" 2>&1 &
simulation=$!
trap 'kill -KILL "$simulation" 2>/dev/null || true' EXIT
context=$work/sim/work/state/admin.yaml
bedplate() { nsenter --net="/proc/$simulation/ns/net" "$programs/bedplate" --context "$context" "$@"; }
for _ in $(seq 120); do
  [ "$(bedplate workflow list -o json 2>/dev/null | grep -c '"finished"')" = 1 ] && break
  sleep 0.5
done

head='image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 1}, memory: {size: 16MiB}}'
start() { printf '%s\n' "$2" > "$work/$1.yaml"; bedplate workflow start "$work/$1.yaml" --name "$1" --as ann; }
start data "version: v4
files: {words: 'to be or not to be'}
volumes:
  in: {ingress: [{source: file://words, destination: file://words}]}
  out: {egress: [{source: file://count, destination: local:///tmp/count}]}
  apart: {use: ephemeral}
jobs:
  count: {$head, mounts: {/in: in, /out: out}, script: '#!/bin/sh', command: []}
  holds: {$head, command: [hang], mounts: {/out: out}, requires: [count]}
  after: {$head, command: [x], requires: [holds], mounts: {/apart: apart}}"
start array "version: v1
jobs:
  frames: {$head, command: [/bin/sleep, '\${FB_TASK_ID}0'], task-array: {start: 1, end: 1000000, concurrency: 2}}
  sum: {$head, command: [x], requires: [frames]}"
start again "version: v1
jobs: {fails: {$head, command: [exit, '3'], policy: {retry: {attempts: 20}}}}"
start failed "version: v1
jobs: {fails: {$head, command: [exit, '4']}, never: {$head, command: [x], requires: [fails]}}"
start hello "version: v1
jobs: {hello: {$head, command: [x]}}"
start ruled "version: v1
jobs: {ruled: {$head, command: [hang]}, next: {$head, command: [x], requires: [ruled]}}"
start strange "version: v1
jobs: {strange: {$head, command: [hang]}, next: {$head, command: [x], requires: [strange]}}"
start stopped "version: v1
jobs: {stopped: {$head, command: [hang]}}"
start paused "version: v1
jobs: {paused: {$head, command: [hang]}, next: {$head, command: [x], requires: [paused]}}"
sleep 4
bedplate workflow pause paused
bedplate workflow stop stopped
sleep 4
# Nothing begins on the nodes until they stand still: what is given to them then never arrives, and
# they never say so.
whole='image: docker://127.0.0.1:5000/tiny:1, resource: {cpu: {cores: 4}, memory: {size: 16MiB}}'
bedplate node drain n00001 n00002 n00003 --reason 'what comes next must not arrive'
start given "version: v1
jobs: {given: {$whole, command: [x]}, next: {$whole, command: [x], requires: [given]}}"
sleep 1
kill -STOP "$simulation"
bedplate node undrain n00001 n00002 n00003
start waits "version: v1
jobs: {waits: {$whole, command: [x]}}"
sleep 1
for name in data array again failed hello ruled strange stopped paused given waits; do
  bedplate workflow status "$name" -o json
done > "$work/shown.txt"
kill -KILL "$(pgrep -P "$simulation" -x bedplate)"
cp "$work"/sim/work/state/*.db* "$work/"
database=$(ls "$work"/*.db)
{
  echo "-- Made by make.sh with the programs of commit 244c59b."
  sqlite3 "$database" .dump
} > "$here/database.sql"
jq -s 'map({key: .summary.name, value: .}) | from_entries' "$work/shown.txt" > "$here/shown.json"
