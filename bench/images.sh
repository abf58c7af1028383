#!/usr/bin/env bash
# Makes the images that are measured here, from Debian's own packages and with tools that are not ours:
# mmdebstrap, umoci, and apt in a chroot. It must be root, and it takes packages from this machine's Debian mirror.
#
# usage: images.sh DIR [IMAGE...]      IMAGE: app big node; app and big unless named
#
#   app    4 layers: Debian's minbase; nginx; python3; and one that deletes what the others left: apt's lists and
#          packages, documentation, manuals, locales (about 108 MB of gzip, 290 MB of tar, 183 MB flattened)
#   big    7 layers: app's, then build-essential; git, cmake, numpy and gfortran; and again one that deletes (about 456 MB,
#          1,011 MB, 686 MB)
#   node   3 layers: Debian's minbase, nodejs, and one that deletes
#
# DIR/IMAGE is an OCI layout with the tag `latest` and gzip layers, DIR/IMAGE.tar the same flattened. What is there
# already stays. Space for temporary files, some 2 GB, is taken below $TMPDIR.
#
# Debian's packages change, so sizes do too: compare ways of one run, never runs of different images.
set -euo pipefail

SUITE=${SUITE:-bookworm}
COMPONENTS_OF_APP="nginx python3"
DELETED="/var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /var/log/*.log"

[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- app big
[ "$(id -u)" = 0 ] || { echo "images.sh: run it as root" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
layout=
bundle=

# into COMMAND...: runs it within the bundle, with a name server and no questions asked.
into() {
  chroot "$bundle/rootfs" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
    http_proxy="${http_proxy:-}" "$@"
}
# layer DESCRIPTION: what has changed in the bundle becomes a layer.
layer() { umoci repack --refresh-bundle --history.created_by "$1" --image "$layout:latest" "$bundle"; }

# start NAME FROM-LAYOUT-OR-NOTHING: a layout that grows, and its contents in a directory.
start() {
  layout=$work/$1
  bundle=$work/$1-bundle
  if [ $# -gt 1 ]; then
    cp -a "$2" "$layout"
  else
    mmdebstrap --quiet --variant=minbase "$SUITE" "$work/base.tar"
    umoci init --layout "$layout"
    umoci new --image "$layout:latest"
    umoci raw add-layer --history.created_by mmdebstrap --image "$layout:latest" "$work/base.tar"
    rm "$work/base.tar"
  fi
  umoci unpack --image "$layout:latest" "$bundle"
}
# quiet_apt COMMAND...: without translations and without caches, of 37 MB each, that only make apt start faster.
quiet_apt() {
  into apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Languages=none -o Dir::Cache::pkgcache= \
    -o Dir::Cache::srcpkgcache= -o APT::Install-Recommends=false "$@" >"$work/apt.log" 2>&1 ||
    { cat "$work/apt.log" >&2; return 1; }
}
# install PACKAGE...: one layer, which also holds what apt leaves behind: its lists and the packages.
install() {
  [ -n "$(ls "$bundle/rootfs/var/lib/apt/lists/"*_Packages 2>/dev/null)" ] || quiet_apt update
  quiet_apt install -y "$@"
  layer "apt-get install $*"
}
# clean: a layer that deletes.
clean() {
  into sh -c "rm -rf $DELETED"
  layer "rm -rf $DELETED"
}
# finish NAME: from here on the image is there, and its tar.
finish() {
  umoci config --no-history --config.cmd=/bin/bash --image "$layout:latest"
  umoci gc --layout "$layout"
  tar -C "$bundle/rootfs" --sort=name --numeric-owner --format=posix --xattrs --xattrs-include='*' \
    -cf "$work/$1.tar" .
  mv "$work/$1.tar" "$out/$1.tar"
  mv "$layout" "$out/$1"
  rm -rf "$bundle"
}

make_app() {
  start app
  local package
  for package in $COMPONENTS_OF_APP; do install "$package"; done
  clean
  finish app
}

make_big() {
  [ -d "$out/app" ] || make_app
  start big "$out/app"
  install build-essential
  install git cmake python3-numpy python3-dev gfortran
  clean
  finish big
}

make_node() {
  start node
  install nodejs
  clean
  finish node
}

for image in "$@"; do
  [ -d "$out/$image" ] || "make_$image"
done
