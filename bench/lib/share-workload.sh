#!/bin/sh
# What is timed of a directory: `share-workload.sh DIR MIB FILES` prints a line `NAME SECONDS` for each step. Runs
# in any shell with busybox's programs, so in guests as on the host; /proc/uptime is the clock that all have.
set -eu
cd "$1"
mib=$2 files=$3
now() { cut -d' ' -f1 /proc/uptime; }
step() {
  name=$1
  shift
  before=$(now)
  "$@" >/dev/null
  echo "$name $before $(now)" | awk '{ print $1, $3 - $2 }'
}
write() { dd if=/dev/zero of=large bs=1M count="$mib" 2>/dev/null; }
write_sync() { dd if=/dev/zero of=large bs=1M count="$mib" conv=fsync 2>/dev/null; }
read_cold() { dd if=large of=/dev/null bs=1M 2>/dev/null; }
write_small() { dd if=/dev/zero of=small bs=4k count=$((mib * 16)) 2>/dev/null; }
make_tar() {
  mkdir source
  for d in $(seq 1 $((files / 100))); do
    mkdir "source/$d"
    for f in $(seq 1 100); do echo "$d $f some text of a source file" >"source/$d/$f"; done
  done
  tar cf files.tar -C source .
}
untar() { mkdir tree && tar xf files.tar -C tree; }
stat_all() { find tree -type f -exec stat -c %s {} +; }
read_all() { find tree -type f -exec cat {} +; }
remove() { rm -r tree; }

step write write
step write+fsync write_sync
# Dropping caches needs root of the machine that has them; what cannot is read from memory.
{ echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null || true
step read read_cold
step read-again read_cold
step write-4k write_small
[ -e files.tar ] || make_tar
step untar untar
step stat stat_all
step read-files read_all
step rm remove
rm -rf large small source files.tar
