#!/usr/bin/env bash
# The main job on a real image, on a fresh machine: builds firectl, makes or pulls Debian with nginx, runs it
# in a microVM, looks at it from every side, stops it, and shows that nothing is left. Everything it makes lies
# below .cache/ of this checkout.
set -euo pipefail

cd "$(dirname "$0")/.."
export PATH=$PWD/bin:$PWD/.cache/tools/bin:$PATH
export FIRECTL_CONFIG_DIR=$PWD/.cache/demo/config FIRECTL_DATA_DIR=$PWD/.cache/demo/data
# Unix sockets have short paths: the run-time directory cannot lie below a checkout of any depth.
runtime=$(mktemp -d /tmp/firectl-demo.XXXXXX)
export FIRECTL_RUNTIME_DIR=$runtime
trap 'firectl rm -f web >/dev/null 2>&1 || true; rm -rf "$runtime"' EXIT

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() {
  printf '\033[36m$ %s\033[0m\n' "$*"
  "$@"
}

say "Install what is missing, then build"
scripts/prerequisites.sh run
make --no-print-directory build
show firectl setup

say "An image: nginx from the public registry, or Debian with nginx from Debian's own packages"
image=docker.io/library/nginx:stable
if ! timeout 20 firectl pull -q "$image" >/dev/null 2>&1; then
  echo "no public registry answers: making the image here, as an OCI layout"
  test/images/make-images.sh .cache/images nginx
  image=oci:$PWD/.cache/images/nginx
fi
echo "image: $image"

say "Run it detached, in a virtual machine of its own"
show firectl run -d --name web --timing "$image"
show firectl list

say "Fetch nginx's page from inside"
fetch=(curl -sS --retry 10 --retry-connrefused --retry-delay 1 http://localhost/)
show firectl exec web "${fetch[@]}" | head -n 5
show firectl logs web

say "Stop it: process, disks, sockets and record are gone"
show firectl stop web
show firectl list -a
left=$(find "$runtime" "$FIRECTL_DATA_DIR/vms" "$FIRECTL_DATA_DIR/rootfs" -mindepth 1 -not -name '*.lock' -not -name '*.json')
if [ -n "$left" ] || pgrep -f "$runtime" >/dev/null; then
  printf 'something is left:\n%s\n' "$left" >&2
  pgrep -af "$runtime" >&2 || true
  exit 1
fi
echo "nothing is left: no process, no disk, no socket, no record"
