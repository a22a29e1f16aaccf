#!/bin/bash
# Makes a job image of busybox alone as an OCI image layout, from Debian's package busybox-static.
#
# usage: build.sh LAYOUT_DIR        (root; the folder must not exist; it appears only when the image is whole)
set -euo pipefail

layout=${1:?usage: build.sh LAYOUT_DIR}
busybox=/bin/busybox
for tool in umoci "$busybox"; do
  command -v "$tool" >/dev/null || { echo "build.sh: $tool is missing: run xtask/setup.sh" >&2; exit 1; }
done
if [ -e "$layout" ]; then echo "build.sh: $layout exists already: remove it first" >&2; exit 1; fi

mkdir -p "$(dirname "$layout")"
work=$(mktemp -d "$(dirname "$layout")/.build-XXXXXX")
trap 'rm -rf "$work"' EXIT
image=$work/layout
root=$work/bundle/rootfs

umoci init --layout "$image"
umoci new --image "$image:1"
umoci unpack --image "$image:1" "$work/bundle"
mkdir -p "$root/bin" "$root/etc" "$root/root"
mkdir -m 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
umoci repack --image "$image:1" --history.created_by "busybox" "$work/bundle"
umoci config --image "$image:1" --config.env PATH=/bin --config.cmd /bin/sh
mv "$image" "$layout"
