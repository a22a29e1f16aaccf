#!/bin/bash
# Installs the shipped overlays over those of an earlier release, and loses nothing that somebody changed in them.
#
# usage: packaging/install-overlays.sh OVERLAYS SHARE SITE
#   OVERLAYS  folder with the overlays of this release
#   SHARE     they go to SHARE/overlays; SHARE/overlays.installed has a line "NAME HASH" for each as it was installed
#   SITE      the site's overlays
#
# An overlay in SHARE/overlays that is as it was installed is replaced. One that was edited becomes the site's, which
# takes the place of the shipped one as a whole, so that it goes on as it was. Where the site has one of that name, or
# nobody knows what was installed (an earlier install.sh kept no list, so it may be edited or just old), it is kept in
# SHARE/overlays.edited and has no effect, which is said with the way to bring it back. Overlays that did not come
# with Bedplate stay where they are.
set -euo pipefail

from=$1 share=$2 site=$3
to=$share/overlays
list=$share/overlays.installed

# One hash over names, kinds, modes, targets and contents.
hash_of() {
  (
    cd "$1"
    find . -printf '%P\t%y\t%m\t%l\n' | LC_ALL=C sort
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
  ) | sha256sum | cut -d' ' -f1
}

installed() {
  [ -e "$list" ] || return 0
  awk -v name="$1" '$1 == name { print $2 }' "$list"
}

# A name in SHARE/overlays.edited that is not taken.
free_name() {
  local number=1
  while [ -e "$share/overlays.edited/$1.$number" ]; do number=$((number + 1)); done
  echo "$share/overlays.edited/$1.$number"
}

# Makes a copy of a folder under a name, which has it at once and whole.
copy() {
  local beside
  beside=$(dirname "$2")/.$(basename "$2").new
  mkdir -p "$(dirname "$2")"
  rm -rf "$beside"
  cp -r --preserve=mode,links "$1" "$beside"
  mv -T "$beside" "$2"
}

# Keeps an overlay that is about to be replaced, if somebody changed it.
keep() {
  local name=$1 was kept
  was=$(installed "$name")
  [ "$(hash_of "$to/$name")" != "$was" ] || return 0
  if [ -d "$from/$name" ] && [ "$(hash_of "$to/$name")" = "$(hash_of "$from/$name")" ]; then return 0; fi
  if [ -n "$was" ] && [ ! -e "$site/$name" ]; then
    kept=$site/$name
    echo "overlay $name was edited in $to: it is the site's now, and goes on as it was: $kept"
    echo "  (to have the shipped one again, move it away)"
  elif [ -e "$site/$name" ]; then
    kept=$(free_name "$name")
    echo "overlay $name in $to was not as this release has it: it is kept in $kept"
    echo "  (the site's own is in effect, as before: $site/$name)"
  else
    kept=$(free_name "$name")
    echo "overlay $name in $to was not as this release has it: it was edited, or is of an older release."
    echo "  It is kept in $kept and no longer has effect."
    if [ -d "$from/$name" ]; then
      echo "  To see what differs: diff -r $kept $to/$name"
    fi
    echo "  To bring it back as the site's: cp -rT $kept $site/$name"
  fi
  copy "$to/$name" "$kept"
}

mkdir -p "$to"
for folder in "$to"/*/; do
  [ -d "$folder" ] || continue
  name=$(basename "$folder")
  # Nobody's but the site's.
  if [ -z "$(installed "$name")" ] && [ ! -d "$from/$name" ]; then continue; fi
  keep "$name"
  [ -d "$from/$name" ] || rm -rf "${to:?}/$name"
done

new=$(mktemp "$list.XXXXXX")
for folder in "$from"/*/; do
  name=$(basename "$folder")
  rm -rf "$to/.$name.old"
  [ ! -e "$to/$name" ] || mv -T "$to/$name" "$to/.$name.old"
  copy "$folder" "$to/$name"
  rm -rf "$to/.$name.old"
  echo "$name $(hash_of "$to/$name")" >>"$new"
done
chmod 644 "$new"
mv "$new" "$list"
