#!/usr/bin/env bash
# Installs what a fresh machine lacks, saying what and why: `prerequisites.sh run` for running VMs from a
# checkout, `prerequisites.sh test` for the tests besides. Nothing is installed that is there already.
set -euo pipefail

purpose=${1:?usage: prerequisites.sh run|test}
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/.cache/tools
packages=()

say() { printf 'prerequisites: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
# want PROGRAM PACKAGE REASON
want() { has "$1" || { say "$1 is missing: $3"; packages+=("$2"); }; }

need() { has "$1" || { say "$1 is needed: $2"; exit 1; }; }

need node "install Node.js 20.11 or later, https://nodejs.org"
need npm "install Node.js with npm, https://nodejs.org"
need cargo "install Rust, https://rustup.rs"
case $(uname -m) in
  x86_64) qemu=qemu-system-x86_64 qemu_package=qemu-system-x86 ;;
  aarch64) qemu=qemu-system-aarch64 qemu_package=qemu-system-arm ;;
  *) say "firectl runs on x86_64 and aarch64, this is $(uname -m)"; exit 1 ;;
esac

want flock util-linux "locks of the state file"
want dpkg-deb dpkg "unpacks the distribution's kernel package"
# Firecracker where KVM works is decided by trying, later; QEMU is there for where it does not.
want "$qemu" "$qemu_package" "runs VMs where there is no usable KVM"
want xz xz-utils "unpacks kernels and modules"
want zstd zstd "unpacks kernels and modules"
want passt passt "connects VMs to the network"
want mmdebstrap mmdebstrap "makes a Debian image from Debian's own packages"
want umoci umoci "packs images as OCI layouts"
if [ "$purpose" = test ]; then
  want skopeo skopeo "copies images between registries and layouts"
  want podman podman "archives are exchanged with it; it runs nothing"
  want dockerd docker.io "the docker: source is tested against a real engine"
  want docker-registry docker-registry "pulls are tested against a real registry"
  want e2fsck e2fsprogs "checks every filesystem that a test builds"
  want debugfs e2fsprogs "looks into filesystems that a test builds"
  want setcap libcap2-bin "makes images with file capabilities"
  want setfattr attr "makes images with extended attributes"
  want setfacl acl "makes images with ACLs"
  want cpio cpio "reads the initramfs that firectl writes"
  want shellcheck shellcheck "lints the scripts"
  want ip iproute2 "makes the network of the network tests"
  want curl curl "asks published ports"
  want tmux tmux "drives the terminal tests"
  if [ "$(dpkg-query -W -f '${db:Status-Status}' busybox-static 2>/dev/null)" != installed ]; then
    say "busybox-static is missing: makes images of one binary"
    packages+=(busybox-static)
  fi
fi

if [ ${#packages[@]} -gt 0 ]; then
  has apt-get || { say "install these with your package manager, then try again: ${packages[*]}"; exit 1; }
  sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  say "installing with apt-get: ${packages[*]}"
  "${sudo[@]}" apt-get update -q >&2
  # dockerd must not be started as a service: the tests start one of their own.
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
fi

if ! has vhost-device-vsock && [ ! -x "$tools/bin/vhost-device-vsock" ]; then
  say "vhost-device-vsock is missing: building it with cargo (vsock for QEMU)"
  cargo install --quiet --locked --version 0.3.0 --root "$tools" vhost-device-vsock >&2
fi
