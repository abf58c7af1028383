#!/usr/bin/env bash
# Makes the images of the end-to-end tests as one OCI layout each below DIR, from Debian's own packages, with
# tools that are not ours: mmdebstrap, umoci. An image that is there already stays.
#
# usage: make-images.sh DIR [IMAGE...]      IMAGE: nginx scratch app layers volume tools, and workloads, which is large
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: make-images.sh DIR [IMAGE...]" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- nginx scratch app layers volume tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Same bytes on every run, so that digests can be compared.
export SOURCE_DATE_EPOCH=1700000000

# layout NAME: an empty layout in the work directory with one image tagged `latest`.
layout() {
  umoci init --layout "$work/$1"
  umoci new --image "$work/$1:latest"
}
# layer NAME TAR
layer() { umoci raw add-layer --image "$work/$1:latest" "$2"; }
# config NAME FLAG...
config() {
  local name=$1
  shift
  umoci config --image "$work/$name:latest" --no-history "$@"
}
# finish NAME: from here on the image is there.
finish() {
  umoci gc --layout "$work/$1"
  mv "$work/$1" "$out/$1"
}
# pack DIR TAR: a directory as a layer, with every attribute it has.
pack() { tar -C "$1" --sort=name --numeric-owner --format=posix --xattrs --xattrs-include='*' -cf "$2" .; }

# busybox DIR: a static busybox with a link for each applet.
busybox() {
  mkdir -p "$1/bin"
  cp /bin/busybox "$1/bin/busybox"
  local applet
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
  done
}

make_nginx() {
  # Nginx's logs go where a container's do. The hooks' $1 is the root, for mmdebstrap's shell to expand.
  # shellcheck disable=SC2016
  mmdebstrap --quiet --variant=minbase --include=nginx-light,curl \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='ln -sf /dev/stdout "$1/var/log/nginx/access.log"' \
    --customize-hook='ln -sf /dev/stderr "$1/var/log/nginx/error.log"' bookworm "$work/nginx.tar"
  layout nginx
  layer nginx "$work/nginx.tar"
  config nginx --config.entrypoint=/usr/sbin/nginx --config.cmd=-g --config.cmd='daemon off;' \
    --config.env=NGINX_MADE_BY=debian --config.stopsignal=SIGQUIT --config.exposedports=80/tcp
  finish nginx
}

# What people use: builds on a directory of the host, programs that draw on a terminal, inits that must be PID 1.
make_tools() {
  mmdebstrap --quiet --variant=minbase --include=git,make,sqlite3,vim-tiny,less,procps \
    --include=systemd-sysv,dbus,s6,execline \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/tools.tar"
  layout tools
  layer tools "$work/tools.tar"
  config tools --config.cmd=/bin/sh
  finish tools
}

# What asks much of a kernel: Docker Engine, systemd, PostgreSQL, a compiler, stress-ng.
make_workloads() {
  mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=docker.io,iptables,nftables,iproute2,kmod,e2fsprogs,ca-certificates \
    --include=systemd-sysv,dbus,postgresql,gcc,make,libc6-dev,stress-ng,procps,busybox-static \
    bookworm "$work/workloads.tar"
  layout workloads
  layer workloads "$work/workloads.tar"
  config workloads --config.cmd=/bin/bash \
    --config.env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  finish workloads
}

make_scratch() {
  mkdir "$work/scratch-root"
  cp /bin/busybox "$work/scratch-root/busybox"
  pack "$work/scratch-root" "$work/scratch.tar"
  layout scratch
  layer scratch "$work/scratch.tar"
  config scratch --config.entrypoint=/busybox --config.cmd=echo --config.cmd='hello from scratch'
  finish scratch
}

make_app() {
  local root=$work/app-root
  busybox "$root"
  mkdir -p "$root/etc" "$root/srv/app" "$root/home/web" "$root/tmp"
  chmod 1777 "$root/tmp"
  printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1234:2345:Web:/home/web:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nweb:x:2345:\nextra:x:3456:other,web\n' >"$root/etc/group"
  cat >"$root/entrypoint.sh" <<'SCRIPT'
#!/bin/sh
echo "user=$(id -u):$(id -g) groups=$(id -G) cwd=$(pwd) home=$HOME greeting=$GREETING"
echo "to stderr" >&2
exec "$@"
SCRIPT
  chmod 755 "$root/entrypoint.sh"
  chown -R 1234:2345 "$root/srv/app" "$root/home/web"
  pack "$root" "$work/app.tar"
  layout app
  layer app "$work/app.tar"
  config app --config.entrypoint=/entrypoint.sh --config.cmd=echo --config.cmd='default command' \
    --config.user=web --config.workingdir=/srv/app --config.env=GREETING=hello --config.env=PATH=/bin \
    --config.label=org.example.purpose=test
  finish app
}

# Layers that later ones change: whiteouts, an opaque directory, hard links within and across layers, file
# capabilities, extended attributes, ACLs, device nodes, odd modes, owners and times, a sparse file.
make_layers() {
  local one=$work/one two=$work/two three=$work/three
  busybox "$one"
  mkdir -p "$one"/{keep,gone-dir/deep,opaque,data,dev,usr/sbin}
  echo kept >"$one/keep/kept"
  echo gone >"$one/keep/gone"
  echo deep >"$one/gone-dir/deep/file"
  echo below >"$one/opaque/below"
  echo shared >"$one/data/original"
  ln "$one/data/original" "$one/data/linked-in-layer"
  # Named after an applet: `/usr/sbin/grep CapEff /proc/self/status` tells its own capabilities.
  cp /bin/busybox "$one/usr/sbin/grep"
  setcap cap_net_bind_service,cap_net_raw=ep "$one/usr/sbin/grep"
  setfattr -n user.purpose -v 'binary safe' "$one/data/original"
  echo acl >"$one/data/with-acl"
  setfacl -m u:1234:r,g:2345:rw "$one/data/with-acl"
  echo setuid >"$one/data/setuid"
  chmod 4755 "$one/data/setuid"
  echo setgid >"$one/data/setgid"
  chmod 2755 "$one/data/setgid"
  mkdir -m 1777 "$one/sticky"
  echo owned >"$one/data/owned"
  chown 70000:80000 "$one/data/owned"
  mknod "$one/dev/a-char" c 1 3
  mknod "$one/dev/a-block" b 7 0
  mkfifo "$one/data/fifo"
  ln -s /keep/kept "$one/short-link"
  ln -s "$(printf 'x%.0s' {1..100})" "$one/long-link"
  truncate -s 300M "$one/data/sparse"
  printf end | dd of="$one/data/sparse" bs=1 seek=314572797 conv=notrunc status=none
  echo "odd" >"$one/data/"$'n\xe9w\nline'
  touch -d '1999-12-31T23:59:59.123456789Z' "$one/data/owned"
  tar -C "$one" --sort=name --numeric-owner --format=posix --sparse --xattrs --xattrs-include='*' \
    -cf "$work/one.tar" .

  mkdir -p "$two"/{keep,opaque,data}
  touch "$two/keep/.wh.gone" "$two/.wh.gone-dir" "$two/opaque/.wh..wh..opq"
  echo above >"$two/opaque/above"
  echo replaced >"$two/data/replaced"
  pack "$two" "$work/two.tar"

  # A hard link to a file of a lower layer: the member names it, the layer does not hold it.
  mkdir -p "$three/data"
  echo placeholder >"$three/data/original"
  ln "$three/data/original" "$three/data/linked-across"
  tar -C "$three" --numeric-owner --format=posix -cf "$work/three.tar" ./data/original ./data/linked-across
  tar --delete -f "$work/three.tar" ./data/original

  layout layers
  layer layers "$work/one.tar"
  layer layers "$work/two.tar"
  config layers --config.cmd=/bin/sh --config.cmd=-c --config.cmd='echo leaving; exit 42' --config.env=PATH=/bin
  # Docker unpacks each layer by itself and cannot load a link into another one.
  cp -a "$work/layers" "$out/layers-for-docker"
  layer layers "$work/three.tar"
  finish layers
}

# The layers' image with a directory that is a volume, whatever the flags say.
make_volume() {
  cp -a "$out/layers" "$work/volume"
  config volume --config.volume=/keep
  finish volume
}

for image in "$@"; do
  [ -d "$out/$image" ] || "make_$image"
done
