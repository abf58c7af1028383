#!/usr/bin/env bash
# Builds firectl's guest kernel from the configuration beside this script: `build.sh --help`.
# Same source, configuration and compiler: same bytes, whatever the directory, the user, the machine and the day.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
fragments=$here/config

usage() {
  cat <<TEXT
usage: kernel/build.sh [option...] --output DIR
       kernel/build.sh [option...] --cache DIR     builds into DIR/KEY unless it is there, prints the directory
       kernel/build.sh [option...] --check         resolves and checks the configuration, builds nothing
       kernel/build.sh [option...] --plan          prints KEY and NAME of the kernel that would be built

The output is vmlinux (arm64: Image), config, manifest.json and SHA256SUMS.

  --source FILE|URL  kernel.org's linux-X.Y.Z.tar.xz, with --sha256; default: Debian's package in source.conf
  --sha256 HEX       its checksum
  --pinned           fail where source.conf's version is no longer on offer, rather than take its successor
  --arch ARCH        x86_64 or arm64 (default: this machine's)
  --with NAME        an optional part, of config/optional; may be repeated
  --work DIR         for sources and object files, 2 GiB; kept when the build fails, which then goes on from there
  --jobs N           compilers at once (default: one a processor)
  --keep-work        keep the work directory after success, too
TEXT
}

say() { printf 'kernel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
# A word of the state that `firectl kernel build` shows as progress.
stage() { say "stage: $*"; }
has() { command -v "$1" >/dev/null 2>&1; }

output='' cache='' check_only='' plan='' source='' sha256='' pinned='' work='' keep_work=''
jobs=$(nproc)
machine=$(uname -m)
with=()
while [ $# -gt 0 ]; do
  case $1 in
    --output | --cache | --source | --sha256 | --arch | --with | --work | --jobs)
      [ $# -gt 1 ] || die "$1 needs a value"
      case $1 in
        --output) output=$2 ;;
        --cache) cache=$2 ;;
        --source) source=$2 ;;
        --sha256) sha256=$2 ;;
        --arch) machine=$2 ;;
        --with) with+=("$2") ;;
        --work) work=$2 ;;
        --jobs) jobs=$2 ;;
      esac
      shift 2
      ;;
    --check) check_only=1; shift ;;
    --plan) plan=1; shift ;;
    --pinned) pinned=1; shift ;;
    --keep-work) keep_work=1; shift ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; die "unknown argument: $1" ;;
  esac
done
case $machine in
  x86_64) arch=x86_64 image=vmlinux ;;
  aarch64 | arm64) arch=arm64 image=Image ;;
  *) die "--arch $machine: expected x86_64 or arm64" ;;
esac
[ -n "$output$cache$check_only$plan" ] || { usage >&2; die "--output, --cache, --check or --plan is needed"; }
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs $jobs: expected a number"
for name in "${with[@]}"; do
  [[ $name =~ ^[a-z0-9-]+$ && -f $fragments/optional/$name.config ]] ||
    die "--with $name: expected one of $(cd "$fragments/optional" && printf '%s ' *.config | sed 's/\.config//g')"
done
# The order in which they are named makes no other kernel.
mapfile -t with < <(printf '%s\n' "${with[@]}" | sed '/^$/d' | sort -u)

cross=''
if [ "$arch" = arm64 ] && [ "$(uname -m)" != aarch64 ]; then cross=aarch64-linux-gnu-; fi
if [ "$arch" = x86_64 ] && [ "$(uname -m)" != x86_64 ]; then cross=x86_64-linux-gnu-; fi

# --- tools ---------------------------------------------------------------------------------------------------

missing=()
# want PROGRAM PACKAGE
want() { has "$1" || missing+=("$2"); }
want make make
want "${cross}gcc" "gcc${cross:+-${cross%-}}"
want "${cross}ld" "binutils${cross:+-${cross%-}}"
want flex flex
want bison bison
want bc bc
want perl perl
want tar tar
want xz xz-utils
want sha256sum coreutils
if [ "$arch" = x86_64 ]; then
  # objtool, which undoes what mitigations cost where they are off, reads ELF files with it.
  echo '#include <gelf.h>' | gcc -E -x c - >/dev/null 2>&1 || missing+=(libelf-dev)
fi
if printf '%s\n' "${with[@]}" | grep -qx btf; then want pahole pahole; fi
if [ ${#missing[@]} -gt 0 ]; then
  say "missing: ${missing[*]}"
  say "install them, with Debian's names: sudo apt-get install ${missing[*]}"
  exit 3
fi

# --- source --------------------------------------------------------------------------------------------------

# Sets source_kind, source_name, source_version, source_sha256; source_file where the archive is here already.
source_file=''
pin() { sed -n "s/^$1=//p" "$here/source.conf"; }
choose_source() {
  if [ -n "$source" ]; then
    [[ $sha256 =~ ^[0-9a-f]{64}$ ]] || die "--source needs --sha256, 64 hexadecimal digits"
    source_kind=tarball source_name=$source source_sha256=$sha256
    source_version=$(basename "$source" | sed -n 's/^linux-\([0-9][0-9a-z.-]*\)\.tar\.[a-z0-9]*$/\1/p')
    [ -n "$source_version" ] || die "--source $source: expected a name such as linux-6.1.192.tar.xz"
    case $source in
      https://*) ;;
      *) [ -f "$source" ] || die "--source $source: there is no such file"; source_file=$source ;;
    esac
    return
  fi
  source_kind=debian
  source_name=$(pin package) source_version=$(pin version) source_sha256=$(pin sha256)
  local installed=/usr/src/$source_name.tar.xz
  if [ -f "$installed" ] && sha256sum "$installed" | grep -q "^$source_sha256 "; then
    source_file=$installed
    return
  fi
  if ! has apt-get || ! has dpkg-deb; then
    die "no apt here to take $source_name from: give kernel.org's archive with --source and --sha256"
  fi
  if apt-cache madison "$source_name" | awk -F' *[|] *' -v v="$source_version" '$2 == v { f = 1 } END { exit !f }'; then
    return
  fi
  [ -z "$pinned" ] || die "apt does not offer $source_name $source_version"
  local candidate
  candidate=$(apt-cache policy "$source_name" | sed -n 's/^ *Candidate: //p')
  if [ -z "$candidate" ] || [ "$candidate" = '(none)' ]; then
    die "apt does not know $source_name: run apt-get update, or give --source and --sha256"
  fi
  say "$source_name $source_version is no longer on offer: taking $candidate, whose bytes only apt's signature vouches for"
  source_version=$candidate source_sha256=''
}

# Puts the archive's path into source_file.
fetch_source() {
  if [ -n "$source_file" ]; then
    [ -z "$source_sha256" ] || verify "$source_file"
    return
  fi
  if [ "$source_kind" = tarball ]; then
    has curl || die "curl is missing: it downloads $source"
    stage "downloading $source"
    source_file=$work/$(basename "$source")
    curl -fsSL --proto '=https' --retry 2 -o "$source_file.part" "$source" || die "cannot download $source"
    mv "$source_file.part" "$source_file"
  else
    stage "downloading $source_name $source_version"
    # Without rights: the package is unpacked, not installed.
    (cd "$work" && apt-get download -q "$source_name=$source_version" >&2) ||
      die "apt-get cannot download $source_name=$source_version"
    dpkg-deb --fsys-tarfile "$work/$source_name"_*.deb | tar -x -C "$work" "./usr/src/$source_name.tar.xz"
    rm "$work/$source_name"_*.deb
    source_file=$work/usr/src/$source_name.tar.xz
  fi
  if [ -n "$source_sha256" ]; then verify "$source_file"; else
    source_sha256=$(sha256sum "$source_file" | cut -d' ' -f1)
  fi
}

verify() {
  local got
  got=$(sha256sum "$1" | cut -d' ' -f1)
  [ "$got" = "$source_sha256" ] || die "$1: expected SHA-256 $source_sha256, got $got"
}

unpack_source() {
  tree=$work/linux
  [ "$(cat "$tree/.firectl-source" 2>/dev/null)" = "$source_sha256" ] && return
  stage "unpacking $(basename "$source_file")"
  rm -rf "$tree"
  mkdir "$tree"
  tar -x -C "$tree" --strip-components=1 -f "$source_file"
  printf '%s\n' "$source_sha256" >"$tree/.firectl-source"
}

# --- configuration -------------------------------------------------------------------------------------------

# The fragments of this architecture, in the order of their names.
fragment_files() {
  local file
  for file in "$fragments"/*.config; do
    case $file in
      *.x86_64.config | *.arm64.config) [[ $file == *".$arch.config" ]] || continue ;;
    esac
    printf '%s\n' "$file"
  done
  for file in "${with[@]}"; do printf '%s\n' "$fragments/optional/$file.config"; done
}

# Everything that a fragment does not ask for is off. Each wish must have come true: one that Kconfig drops, for
# lack of what it depends on or because the version no longer has it, would be missed only in a guest.
configure() {
  local wishes=$build/wishes
  mkdir -p "$build"
  mapfile -t files < <(fragment_files)
  # What an optional part says goes before what the others say: it comes last.
  sed -nE 's/^(CONFIG_[A-Za-z0-9_]+=.*)$/\1/p; s/^# (CONFIG_[A-Za-z0-9_]+) is not set$/\1=n/p' "${files[@]}" |
    awk -F= '{ value[$1] = $0 } !seen[$1]++ { order[++n] = $1 } END { for (i = 1; i <= n; i++) print value[order[i]] }' \
      >"$wishes"
  run_make -s "KCONFIG_ALLCONFIG=$wishes" allnoconfig >"$build/kconfig.log" 2>&1 || {
    cat "$build/kconfig.log" >&2
    die "the configuration cannot be resolved"
  }
  awk -F= '
    FNR == NR { if ($0 ~ /^CONFIG_/) got[$1] = $0; next }
    $2 == "n" { if ($1 in got) { print "kernel: " $1 " is on: something selects it"; failed = 1 } next }
    got[$1] != $0 {
      print "kernel: " $0 " was dropped: what it depends on is off, or this version does not have it"
      failed = 1
    }
    END { exit failed }
  ' "$build/.config" "$wishes" >&2 || die "the configuration is not what the fragments ask for"
}

# --- build ---------------------------------------------------------------------------------------------------

# Nothing of this machine, user or moment gets in; nothing of the caller's environment either. Takes the place of
# the shell that calls it, so that its pid is make's.
exec_make() {
  exec env -i PATH="$PATH" HOME="${HOME:-/}" LC_ALL=C ${CCACHE_DIR:+CCACHE_DIR="$CCACHE_DIR"} \
    KBUILD_BUILD_TIMESTAMP='1970-01-01 00:00:00 UTC' KBUILD_BUILD_USER=firectl KBUILD_BUILD_HOST=firectl \
    KBUILD_BUILD_VERSION=1 SOURCE_DATE_EPOCH=0 \
    make -C "$tree" O="$build" ARCH="$arch" CROSS_COMPILE="$cross" \
    KCFLAGS="-ffile-prefix-map=$tree=. -ffile-prefix-map=$build=." \
    KAFLAGS="-ffile-prefix-map=$tree=. -ffile-prefix-map=$build=." "$@"
}

run_make() { (exec_make "$@"); }

# make runs in the background, in a process group of its own, so that a signal to this script ends it at once, and
# all that it has started.
compiler_pid=''
compile() {
  local log=$work/build.log reporter status=0
  stage "compiling"
  rm -f "$work/output"
  mkfifo "$work/output"
  awk -v file="$log" '{ print >file } NR % 25 == 0 { print "kernel: stage: compiling, " NR " files done"; fflush() }' \
    <"$work/output" >&2 &
  reporter=$!
  set -m
  exec_make -j"$jobs" "$image" >"$work/output" 2>&1 </dev/null &
  compiler_pid=$!
  set +m
  wait "$compiler_pid" || status=$?
  compiler_pid=''
  wait "$reporter"
  [ "$status" != 0 ] || return 0
  tail -n 30 "$log" >&2
  die "the build failed, all of its output is in $log"
}

# stop STATUS
stop() {
  trap '' INT TERM
  if [ -n "$compiler_pid" ]; then
    kill -TERM -- "-$compiler_pid" 2>/dev/null || true
    wait || true
  fi
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM

# What firectl calls the kernel unless told otherwise. A revision of Debian's makes no other name.
kernel_name() { printf 'firectl-%s%s' "${source_version%%-*}" "$(printf -- '-%s' "${with[@]}" | sed 's/^-$//')"; }

# A hash of what the kernel is made of: the same key, the same kernel.
key() {
  (
    cd "$here"
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    printf '%s\n' "$source_kind $source_version $planned_sha256 $arch" "${with[@]}"
    "${cross}gcc" --version | head -n 1
  ) | sha256sum | cut -c1-24
}

json_list() {
  local separator='' word
  for word in "$@"; do printf '%s"%s"' "$separator" "$word"; separator=', '; done
}

features() {
  local name symbol symbols
  while read -r name symbols; do
    case $name in '' | '#') continue ;; esac
    for symbol in $symbols; do
      grep -qx "CONFIG_$symbol=y" "$build/.config" || continue 2
    done
    printf '%s\n' "$name"
  done <"$here/features.conf"
}

write_manifest() {
  local release supported
  release=$(cat "$build/include/config/kernel.release")
  mapfile -t supported < <(features)
  cat <<JSON
{
  "firectlKernel": 1,
  "name": "$(kernel_name)",
  "key": "$(key)",
  "release": "$release",
  "architecture": "$arch",
  "image": "$image",
  "sha256": "$(sha256sum "$1/$image" | cut -d' ' -f1)",
  "source": { "kind": "$source_kind", "name": "$(basename "$source_name")", "version": "$source_version", "sha256": "$source_sha256" },
  "compiler": "$("${cross}gcc" --version | head -n 1 | tr -d '"')",
  "configSha256": "$(sha256sum "$1/config" | cut -d' ' -f1)",
  "with": [$(json_list "${with[@]}")],
  "modules": [],
  "features": [$(json_list "${supported[@]}")]
}
JSON
}

# Appears whole or not at all.
install_output() {
  local target=$1 new=$1.$$.tmp
  mkdir -p "$new"
  if [ "$arch" = x86_64 ]; then
    # What is not loaded goes: symbols, for a third of the file.
    "${cross}strip" --strip-all -o "$new/vmlinux" "$build/vmlinux"
  else
    cp "$build/arch/arm64/boot/Image" "$new/Image"
  fi
  # Its head names the compiler's version and no machine.
  cp "$build/.config" "$new/config"
  write_manifest "$new" >"$new/manifest.json"
  (cd "$new" && sha256sum "$image" config manifest.json >SHA256SUMS)
  rm -rf "$target"
  mv "$new" "$target"
}

choose_source
planned_sha256=$source_sha256
if [ -n "$plan" ]; then
  printf '%s %s\n' "$(key)" "$(kernel_name)"
  exit 0
fi
if [ -n "$cache" ]; then
  mkdir -p "$cache"
  output=$(cd "$cache" && pwd)/$arch-$(key)
  if [ -f "$output/manifest.json" ]; then
    printf '%s\n' "$output"
    exit 0
  fi
  work=${work:-$(dirname "$output")/work-$arch}
fi
if [ -n "$output" ]; then
  mkdir -p "$(dirname "$output")"
  output=$(cd "$(dirname "$output")" && pwd)/$(basename "$output")
fi
made_work=''
if [ -z "$work" ]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/firectl-kernel.XXXXXX")
  made_work=1
fi
# What a failure, or Ctrl-C, has left is what the next try goes on from, if anything was built.
leave_work() {
  [ "$1" != 0 ] || return 0
  if [ -f "$work/build.log" ]; then
    say "what was built so far is in $work: --work $work goes on from there"
  elif [ -n "$made_work" ]; then
    rm -rf "$work"
  fi
}
trap 'leave_work $?' EXIT
mkdir -p "$work"
work=$(cd "$work" && pwd)
build=$work/build-$arch
if [ -z "$check_only" ]; then
  free=$(df -Pk "$work" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free" -ge 2600 ] || [ -d "$build" ] || die "$work: $free MiB are free, the build needs 2600"
fi

fetch_source
unpack_source
stage "configuring"
configure
if [ -n "$check_only" ]; then
  say "$arch: $(grep -c '=y$' "$build/.config") symbols on, all $(wc -l <"$build/wishes") wishes came true"
  [ -z "$made_work" ] || rm -rf "$work"
  exit 0
fi
compile
stage "installing"
install_output "$output"
[ -n "$keep_work" ] || rm -rf "$work"
printf '%s\n' "$output"
