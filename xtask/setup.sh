#!/bin/bash
# Installs the Debian packages that building, testing and the demo need and that are missing. Starts no service.
set -euo pipefail

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
)
missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
need_nextest=$(command -v cargo-nextest >/dev/null || echo yes)
[ ${#missing[@]} -eq 0 ] && [ -z "$need_nextest" ] && exit 0

if ! command -v cargo >/dev/null; then
  echo "setup: cargo is missing: install Rust 1.95 or newer (rustup), then run this again" >&2
  exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "setup: these packages are missing and only root can install them:" >&2
    echo "setup:   apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  echo "setup: installing ${missing[*]}"
  # A policy that lets no package start its daemon, for the length of the installation, unless the site has one.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  dpkg --configure -a # apt refuses to work after an installation that was cut off
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}"
fi
if [ -n "$need_nextest" ]; then
  echo "setup: building cargo-nextest, once (about five minutes)"
  cargo install --quiet --locked cargo-nextest
fi
