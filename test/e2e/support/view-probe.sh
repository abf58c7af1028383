#!/bin/sh
# What a process can see of the place it runs in: one fact a line, its topic first. For busybox's shell, in a
# container and in a VM alike.
exec 2>&1
fact() { topic=$1; shift; printf '%s %s\n' "$topic" "$*"; }
env | sort | while read -r line; do fact env "$line"; done
fact id "$(id -u):$(id -g) $(id -G)"
fact cwd "$(pwd)"
fact umask "$(umask)"
fact hostname "$(hostname)"
grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Sig(Ign|Blk))' /proc/self/status | while read -r k v; do fact status "$k $v"; done
tail -n +2 /proc/self/limits | sed 's/  */ /g' | while read -r line; do fact limit "$line"; done
fact pid "$$"
fact init "$(tr '\0' ' ' </proc/1/cmdline)"
fact oom "$(cat /proc/self/oom_score_adj)"
sed 's/^/cgroup /' /proc/self/cgroup
while read -r _ _ _ _ point options rest; do
  type=${rest#*- }
  type=${type%% *}
  fact mount "$point $type $(echo "$options" | sed 's/,relatime//')"
done </proc/self/mountinfo
for f in /dev/* /dev/.*; do
  [ -e "$f" ] || [ -L "$f" ] || continue
  case $f in */. | */..) continue ;; esac
  if [ -L "$f" ]; then
    fact dev "$f -> $(readlink "$f")"
  else
    fact dev "$f $(stat -c '%A %t:%T %u:%g' "$f")"
  fi
done
for f in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger /proc/sys/kernel/hostname /sys/kernel /sys/firmware /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/cgroup.subtree_control /proc/sys/net/ipv4/ip_forward /proc/irq /proc/bus; do
  [ -r "$f" ] && r=r || r=-
  [ -w "$f" ] && w=w || w=-
  fact access "$f $r$w"
done
for f in memory.max memory.swap.max pids.max cpu.max cgroup.type; do fact limits "$f $(cat /sys/fs/cgroup/$f 2>&1)"; done
for f in /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab /tmp /dev/shm /dev/pts /dev/mqueue /sys/fs/cgroup / /proc /sys /run; do fact file "$f $(stat -c '%A %u:%g %F' "$f" 2>&1)"; done
sed 's/^/file-hosts /' /etc/hosts
sed 's/^/file-resolv /' /etc/resolv.conf
for n in 0 1 2 3 4 5; do
  [ ! -e /proc/self/fd/$n ] || fact fd "$n $(readlink /proc/self/fd/$n | sed 's/[0-9][0-9]*/N/g')"
done
for s in net.ipv4.ip_unprivileged_port_start net.ipv4.ping_group_range kernel.shmmax kernel.msgmax vm.overcommit_memory; do fact sysctl "$s $(sysctl -n $s 2>&1)"; done
