#!/bin/bash
# Makes a small Debian 12 job image as an OCI image layout: essential packages alone.
#
# usage: build.sh LAYOUT_DIR        (root; the folder must not exist; it appears only when the image is whole)
#
# Packages come from where this machine's own apt takes them.
set -euo pipefail

layout=${1:?usage: build.sh LAYOUT_DIR}
for tool in mmdebstrap umoci; do
  command -v "$tool" >/dev/null || { echo "build.sh: $tool is missing: run xtask/setup.sh" >&2; exit 1; }
done
if [ -e "$layout" ]; then echo "build.sh: $layout exists already: remove it first" >&2; exit 1; fi

mkdir -p "$(dirname "$layout")"
work=$(mktemp -d "$(dirname "$layout")/.build-XXXXXX")
trap 'rm -rf "$work"' EXIT
image=$work/layout
root=$work/bundle/rootfs
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
  [ -s "$file" ] && sources+=("$file")
done

umoci init --layout "$image"
umoci new --image "$image:12"
umoci unpack --image "$image:12" "$work/bundle"
mmdebstrap --quiet --mode=root --variant=essential \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  bookworm "$work/base.tar" "${sources[@]}"
tar --extract --file "$work/base.tar" --directory "$root" --numeric-owner --xattrs --xattrs-include='*'
rm "$work/base.tar"
# The node's own /dev takes their place.
rm -rf "$root"/dev/* "$root"/var/lib/apt/lists/*
umoci repack --image "$image:12" --history.created_by "essential packages" "$work/bundle"
umoci config --image "$image:12" --config.env PATH=/usr/local/bin:/usr/bin:/bin --config.cmd /bin/bash
mv "$image" "$layout"
