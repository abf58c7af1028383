/**
 * The supervisor: a constant, so that no value can ever become shell code. Its parameters are the runtime
 * directory; the console file or ""; the limit of console and log in bytes; the number of side processes; name,
 * socket, limit in blocks or "", number of words and words of each; number of words and words of the VMM; and what
 * to become when the VMM has ended.
 *
 * Each pid file is written by the process itself, before it becomes what it is for: the shell may learn of a child
 * when that has ended and is nowhere to be found. Killing firectl at any instant loses nothing; what is killed or
 * kills before the note is written is found by its environment, see `findSupervised`.
 *
 * The console's reader is dd(1) byte by byte: the one POSIX tool that is both exact in its bound and never
 * holds back what it has read; when it has had enough, the VMM's writes fail and are dropped. What the VMM says
 * on stderr comes in lines and is read by the shell itself, which would only wait: that costs no process.
 */
export const SUPERVISOR_SCRIPT: string = `
umask 077
cd / || exit 1
dir=$1 console=$2 limit=$3 sides=$4 companions= reader= vmm=
shift 4
note() { IFS= read -r line </proc/self/stat && printf '%s\\n' "$line" >"$dir/$1.pid" || exit 1; }
fail() { echo "firectl: $1" >&2; kill -9 $companions $reader $vmm 2>/dev/null; exit 1; }
listens() {
  # bind(2) makes the file, listen(2) comes after it: the flag is __SO_ACCEPTCON, unix(7) and proc(5).
  [ -S "$1" ] || return 1
  case $(grep -F -- " $1" /proc/net/unix) in *' 00010000 '*) return 0 ;; *) return 1 ;; esac
}
run() {
  words=$1 left=$1
  shift
  while [ "$left" -gt 0 ]; do set -- "$@" "$1"; shift; left=$((left - 1)); done
  shift $(($# - words))
  exec "$@"
}
run_side() {
  note "$1"
  # In blocks of 512 bytes. A write beyond that fails, and by no signal.
  [ -z "$2" ] || { trap '' XFSZ; ulimit -f "$2"; }
  shift 2
  run "$@"
}
# What the VMM's snapshots say of its files is relative to there.
run_vmm() {
  cd "$dir" || exit 1
  note vmm
  run "$@"
}
keep_log() {
  while IFS= read -r line || [ -n "$line" ]; do
    limit=$((limit - \${#line} - 1))
    [ "$limit" -ge 0 ] || break
    printf '%s\\n' "$line" >&2
  done <&4
  exec 4<&-
}
note supervisor
while [ "$sides" -gt 0 ]; do
  name=$1 socket=$2 blocks=$3 words=$4
  shift 4
  run_side "$name" "$blocks" "$words" "$@" &
  side=$!
  companions="$companions $side"
  tries=1000
  until listens "$socket"; do
    { IFS= read -r line <"/proc/$side/stat"; } 2>/dev/null || fail "$name has ended"
    case $line in *') Z '*) fail "$name has ended" ;; esac
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail "$name does not listen on its socket"
    sleep 0.01
  done
  shift "$words"
  sides=$((sides - 1))
done
words=$1
shift
if [ -n "$console" ]; then
  mkfifo "$dir/console.fifo" "$dir/log.fifo" || fail "cannot make the VMM's pipes"
  # Noted before it opens its end, which is before the VMM is: whoever finds the VMM's note finds this one.
  { note console; exec dd bs=1 "count=$limit" <"$dir/console.fifo" >"$console" 2>/dev/null; } &
  reader=$!
  # Opened for both at first: to open one end would wait for the other. Not left so: who can read it gets no EPIPE.
  exec 3<>"$dir/log.fifo" 4<"$dir/log.fifo" 3>"$dir/log.fifo"
  run_vmm "$words" "$@" >"$dir/console.fifo" 2>&3 3>&- 4<&- &
  exec 3>&-
else
  run_vmm "$words" "$@" &
fi
vmm=$!
[ -z "$console" ] || keep_log
wait "$vmm"
echo $? >"$dir/vmm.status"
[ -z "$companions" ] || kill -9 $companions 2>/dev/null
wait
shift "$words"
[ $# -gt 0 ] || exit 0
unset FIRECTL_SUPERVISED
exec "$@"
`;
