#!/bin/bash
# Makes the OS image of the benchmarks `import` and `rebuild`: the node OS of images/debian-node (four layers) and a small fifth layer of site
# configuration, which differs from tag to tag.
#
# usage: image.sh WORKSPACE LAYOUT_DIR TAGS   (root; LAYOUT_DIR must not exist; it appears only when the image is whole)
set -euo pipefail

workspace=$1 layout=$2 tags=$3
work=$(mktemp -d "$(dirname "$layout")/.image-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$workspace/images/debian-node/build.sh" "$work/layout"
for tag in $(seq "$tags"); do
  umoci unpack --image "$work/layout:12" "$work/bundle"
  site=$work/bundle/rootfs/etc/site
  mkdir "$site"
  for file in $(seq 200); do echo "setting $file of generation $tag" >"$site/$file.conf"; done
  echo "$tag" >"$site/generation"
  rm -f "$work/bundle/rootfs/etc/motd"
  umoci repack --image "$work/layout:$tag" --history.created_by "site configuration $tag" "$work/bundle"
  rm -rf "$work/bundle"
done
umoci gc --layout "$work/layout"
mv "$work/layout" "$layout"
