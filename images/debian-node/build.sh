#!/bin/bash
# Makes the Debian 12 node OS as an OCI image layout of four layers: base, kernel, services, clean-up.
#
# usage: build.sh LAYOUT_DIR        (root; the folder must not exist; it appears only when the image is whole)
#
# Packages come from where this machine's own apt takes them. Nothing is started: the chroot refuses services.
set -euo pipefail

layout=${1:?usage: build.sh LAYOUT_DIR}
if [ "$(id -u)" != 0 ]; then echo "build.sh: must run as root: it makes device nodes and uses chroot" >&2; exit 1; fi
for tool in mmdebstrap umoci unshare; do
  command -v "$tool" >/dev/null || { echo "build.sh: $tool is missing: run xtask/setup.sh" >&2; exit 1; }
done
if [ -e "$layout" ]; then echo "build.sh: $layout exists already: remove it first" >&2; exit 1; fi

# The mounts of the chroot live in a mount namespace of their own and end with it.
if [ "${BEDPLATE_IMAGE_NAMESPACE:-}" != 1 ]; then
  BEDPLATE_IMAGE_NAMESPACE=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

mkdir -p "$(dirname "$layout")"
work=$(mktemp -d "$(dirname "$layout")/.build-XXXXXX")
trap 'umount -R "$work/bundle/rootfs/proc" 2>/dev/null || true; rm -rf "$work"' EXIT
image=$work/layout
root=$work/bundle/rootfs

sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
  [ -s "$file" ] && sources+=("$file")
done

# apt of the chroot, without documentation that no node reads.
install_packages() {
  mount -t proc proc "$root/proc"
  cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  # INITRD=No: the node's initramfs is made by Bedplate at import.
  chroot "$root" apt-get -qq update
  INITRD=No DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq -y --no-install-recommends install "$@"
  chroot "$root" apt-get clean
  rm -rf "$root"/var/lib/apt/lists/*
  rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/resolv.conf"
  umount "$root/proc"
}

commit() {
  umoci repack --image "$image:12" --refresh-bundle --history.created_by "$1" "$work/bundle"
}

umoci init --layout "$image"
umoci new --image "$image:12"
umoci unpack --image "$image:12" "$work/bundle"

echo "build.sh: layer 1 of 4: base system"
mmdebstrap --quiet --mode=root --variant=apt \
  --include=systemd,systemd-sysv,udev,dbus,kmod,iproute2,libpam-systemd,ca-certificates \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$work/base.tar" "${sources[@]}"
tar --extract --file "$work/base.tar" --directory "$root" --numeric-owner --xattrs --xattrs-include='*'
rm "$work/base.tar"
rm -rf "$root"/var/lib/apt/lists/*
commit "base system"

echo "build.sh: layer 2 of 4: kernel"
install_packages linux-image-amd64
commit "kernel"

echo "build.sh: layer 3 of 4: services"
install_packages openssh-server iputils-ping curl attr hwloc-nox pciutils \
  dmidecode fdisk ibverbs-utils ibverbs-providers ipmitool
# Host keys belong to nodes, not to images: they come with an overlay.
rm -f "$root"/etc/ssh/ssh_host_*
cp -a "$(dirname "$0")/rootfs/." "$root/"
chown -R --no-dereference 0:0 "$root/etc/systemd"
chroot "$root" useradd --create-home --shell /bin/bash user
chroot "$root" systemctl --quiet enable systemd-networkd.service
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer
ln "$root/usr/bin/curl" "$root/usr/local/bin/fetch"
commit "services"

echo "build.sh: layer 4 of 4: clean-up"
# Whiteouts of a folder, of files, and an opaque folder: what an import must get right.
rm -rf "$root"/usr/share/doc "$root"/var/cache/debconf/*-old
# Without this folder the journal stays in /run: a persistent one would only fill the node's writable part. Its ACLs
# could not be kept by squashfs either.
rm -rf "$root/var/log/journal"
rm -rf "$root/usr/share/bug" && mkdir "$root/usr/share/bug"
rm -f "$root"/var/log/*.log "$root"/var/log/apt/* "$root/etc/machine-id" "$root"/boot/initrd.img-*
commit "clean-up"

umoci config --image "$image:12" --os linux --architecture amd64 --config.cmd /sbin/init
umoci gc --layout "$image"
mv "$image" "$layout"
echo "build.sh: $layout is ready"
