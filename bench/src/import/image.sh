#!/bin/bash
# Makes the OS image of the benchmarks `import` and `rebuild`: base, kernel and services of images/debian-node, tools, and a small layer of site
# configuration, which differs from tag to tag.
#
# usage: image.sh WORKSPACE LAYOUT_DIR TAGS   (root; LAYOUT_DIR must not exist; it appears only when the image is whole)
set -euo pipefail

workspace=$1 layout=$2 tags=$3
# The mounts of the chroot live in a mount namespace of their own and end with it.
if [ "${BEDPLATE_IMAGE_NAMESPACE:-}" != 2 ]; then
  BEDPLATE_IMAGE_NAMESPACE=2 exec unshare --mount --propagation private -- bash -euo pipefail "$0" "$@"
fi
work=$(mktemp -d "$(dirname "$layout")/.image-XXXXXX")
root=$work/bundle/rootfs
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf "$work"' EXIT

"$workspace/images/debian-node/build.sh" "$work/layout"

# Without its last layer, the clean-up.
python3 - "$work/layout" <<'EOF'
import hashlib, json, os, sys
layout = sys.argv[1]
blob = lambda digest: os.path.join(layout, "blobs/sha256", digest.removeprefix("sha256:"))
def put(descriptor, document):
    text = json.dumps(document).encode()
    descriptor.update(digest="sha256:" + hashlib.sha256(text).hexdigest(), size=len(text))
    open(blob(descriptor["digest"]), "wb").write(text)
index = json.load(open(layout + "/index.json"))
manifest = json.load(open(blob(index["manifests"][0]["digest"])))
config = json.load(open(blob(manifest["config"]["digest"])))
config["rootfs"]["diff_ids"] = config["rootfs"]["diff_ids"][:3]
config["history"] = [step for step in config.get("history", []) if not step.get("empty_layer")][:3]
manifest["layers"] = manifest["layers"][:3]
put(manifest["config"], config)
put(index["manifests"][0], manifest)
json.dump(index, open(layout + "/index.json", "w"))
EOF

umoci unpack --image "$work/layout:12" "$work/bundle"
mount -t proc proc "$root/proc"
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
chroot "$root" apt-get -qq update
INITRD=No DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq -y --no-install-recommends install \
  python3 perl vim-tiny nfs-common chrony rsyslog gdb-minimal
chroot "$root" apt-get clean
umount "$root/proc"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/journal "$root"/var/log/*.log "$root"/var/log/apt/*
rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/resolv.conf" "$root/etc/machine-id" "$root"/boot/initrd.img-*
umoci repack --image "$work/layout:12" --refresh-bundle --history.created_by tools "$work/bundle"

# Each tag is that and one layer, since the bundle is not refreshed.
mkdir "$root/etc/site"
rm -rf "$root/usr/share/bug" "$root/etc/motd"
for tag in $(seq "$tags"); do
  for file in $(seq 200); do echo "setting $file of generation $tag" >"$root/etc/site/$file.conf"; done
  echo "$tag" >"$root/etc/site/generation"
  umoci repack --image "$work/layout:$tag" --history.created_by "site configuration $tag" "$work/bundle"
done
umoci gc --layout "$work/layout"
mv "$work/layout" "$layout"
