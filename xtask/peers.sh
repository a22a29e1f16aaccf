#!/bin/bash
# Gets the peers of `cargo xtask bench`: Debian packages, and under target/peers what cannot be installed beside another or is no package.
# Starts no service. Goes on where one cannot be had, says so at the end, and fails then. `make test` needs none of them.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  kea-dhcp4-server kea-admin dnsmasq-base  # DHCP; perfdhcp is in kea-admin
  tftpd-hpa                                # TFTP
  nginx-light wrk                          # HTTP, and what loads it
  skopeo umoci docker-registry mmdebstrap  # images
  cpio gzip zstd squashfs-tools            # initramfs, and a look into our squashfs
  parallel crun runc                       # jobs and containers
  python3-yaml                             # the register
  cmake libclang-dev                       # what HyperQueue is built with
)
extracted=(atftpd)                         # conflicts with tftpd-hpa
# Version 0.26.2. Its Python package has a server too, but none that keeps a journal. HYPERQUEUE_SOURCE names another clone of it.
hyperqueue=${HYPERQUEUE_SOURCE:-https://github.com/It4innovations/hyperqueue}
revision=680857bdfa45f92c50535cdef525f5a26bbcf55c

folder=target/peers
mkdir -p "$folder"
missing=()
say() { echo "peers: $*"; }

if [ "$(id -u)" != 0 ]; then
  echo "peers: only root can install packages; run this as root" >&2
  exit 1
fi
# A policy that lets no package start its daemon, for the length of the installation, unless the site has one.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]; }
install_packages() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >"$folder/apt.log" 2>&1; }

wanted=()
for package in "${packages[@]}"; do is_installed "$package" || wanted+=("$package"); done
if [ ${#wanted[@]} -gt 0 ]; then
  say "installing ${wanted[*]}"
  apt-get -qq update || say "the lists of packages are not fresh"
  if ! install_packages "${wanted[@]}"; then
    for package in "${wanted[@]}"; do
      install_packages "$package" || missing+=("$package ($(tail -n 1 "$folder/apt.log"))")
    done
  fi
fi

: >"$folder/versions.new"
for package in "${extracted[@]}"; do
  if [ ! -d "$folder/$package" ]; then
    say "unpacking $package"
    rm -rf "$folder/deb" && mkdir "$folder/deb"
    if (cd "$folder/deb" && apt-get -qq download "$package") >"$folder/apt.log" 2>&1; then
      dpkg -x "$folder/deb/$package"_*.deb "$folder/$package"
      dpkg-deb -W --showformat '${Package} ${Version}\n' "$folder/deb/$package"_*.deb >"$folder/$package/version"
    else
      missing+=("$package ($(tail -n 1 "$folder/apt.log"))")
    fi
    rm -rf "$folder/deb"
  fi
  cat "$folder/$package/version" >>"$folder/versions.new" 2>/dev/null || true
done

if [ ! -x "$folder/hq/bin/hq" ]; then
  say "building HyperQueue, once (about ten minutes)"
  if ! CARGO_TARGET_DIR=$folder/hq-build cargo install --quiet --locked --root "$folder/hq" --git "$hyperqueue" --rev "$revision" \
    hyperqueue >"$folder/hq.log" 2>&1; then
    missing+=("HyperQueue from $hyperqueue (see $folder/hq.log)")
  fi
  rm -rf "$folder/hq-build"
fi
"$folder/hq/bin/hq" --version >>"$folder/versions.new" 2>/dev/null || true
mv "$folder/versions.new" "$folder/versions"

for lack in "${missing[@]}"; do say "could not be had: $lack"; done
[ ${#missing[@]} -eq 0 ] || exit 1
say "all are there"
