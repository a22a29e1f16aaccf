#!/bin/bash
# Makes the machine of `vm-tests bench throughput`: a Debian 12 with batch systems to compare with, to be booted from its disk.
#
# usage: build.sh MACHINE_DIR        (root; the folder must not exist; it appears only when the machine is whole)
#
# MACHINE_DIR/disk.img    ext4, the root file system. /jobs/true is the OCI layout of an image for jobs, which has the same
#                         /bin/true and C library as the disk itself; /jobs/boot is the smallest image that a node can have.
#             vmlinuz     its kernel
#             initrd.img  and what mounts the root file system
#
# Packages come from where this machine's own apt takes them. Nothing is started: the chroot refuses services.
set -euo pipefail

machine=${1:?usage: build.sh MACHINE_DIR}
if [ "$(id -u)" != 0 ]; then echo "build.sh: must run as root: it makes device nodes and uses chroot" >&2; exit 1; fi
for tool in mmdebstrap umoci mke2fs; do
  command -v "$tool" >/dev/null || { echo "build.sh: $tool is missing: run xtask/setup.sh" >&2; exit 1; }
done
if [ -e "$machine" ]; then echo "build.sh: $machine exists already: remove it first" >&2; exit 1; fi

mkdir -p "$(dirname "$machine")"
work=$(mktemp -d "$(dirname "$machine")/.build-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
  [ -s "$file" ] && sources+=("$file")
done

echo "build.sh: 1 of 3: base system, kernel, batch systems"
mmdebstrap --quiet --mode=root --variant=apt --format=directory \
  --include=systemd,systemd-sysv,udev,dbus,kmod,iproute2,procps,ca-certificates,linux-image-amd64,initramfs-tools,zstd \
  --include=slurmctld,slurmd,slurm-client,munge,parallel \
  --include=docker-registry,skopeo,squashfs-tools-ng,linux-perf \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  bookworm "$root" "${sources[@]}"
rm -rf "$root"/var/lib/apt/lists/*
cp -a "$(dirname "$0")/rootfs/." "$root/"
chown -R --no-dereference 0:0 "$root/etc/systemd" "$root/etc/fstab" "$root/etc/hostname" "$root/etc/hosts"
mkdir -p "$root/programs" "$root/state"
# The benchmark starts each system itself, one at a time.
chroot "$root" systemctl --quiet disable slurmctld.service slurmd.service munge.service docker-registry.service
# Timers would run in the middle of a measurement.
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  fstrim.timer systemd-tmpfiles-clean.timer
chroot "$root" systemctl --quiet enable measure.service

echo "build.sh: 2 of 3: images for jobs and for the node"
mkdir -p "$root/jobs"
# The image $1 of one layer with the files of the folder $2.
image() {
  umoci init --layout "$1"
  umoci new --image "$1:1"
  umoci unpack --image "$1:1" "$work/bundle"
  cp -a "$2/." "$work/bundle/rootfs/"
  umoci repack --image "$1:1" --history.created_by "$(basename "$1")" "$work/bundle"
  umoci config --image "$1:1" --os linux --architecture amd64 --config.env PATH=/bin --config.cmd /bin/true
  rm -rf "$work/bundle"
}
tree=$work/true
mkdir -p "$tree/bin" "$tree/etc" "$tree/lib64" "$tree/lib/x86_64-linux-gnu"
cp "$root/bin/true" "$tree/bin/true"
cp --dereference "$root/lib64/ld-linux-x86-64.so.2" "$tree/lib64/"
cp --dereference "$root/lib/x86_64-linux-gnu/libc.so.6" "$tree/lib/x86_64-linux-gnu/"
cp "$root/etc/ld.so.cache" "$tree/etc/"
echo 'root:x:0:0:root:/root:/bin/false' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"
image "$root/jobs/true" "$tree"
tree=$work/boot
mkdir -p "$tree/lib/modules/0-none"
touch "$tree/lib/modules/0-none/modules.dep"
echo 'nothing boots it' >"$tree/lib/modules/0-none/vmlinuz"
image "$root/jobs/boot" "$tree"

echo "build.sh: 3 of 3: disk"
mkdir "$work/machine"
cp "$root"/boot/vmlinuz-* "$work/machine/vmlinuz"
cp "$root"/boot/initrd.img-* "$work/machine/initrd.img"
mke2fs -q -t ext4 -L root -d "$root" "$work/machine/disk.img" 3G
mv "$work/machine" "$machine"
echo "build.sh: $machine is ready"
