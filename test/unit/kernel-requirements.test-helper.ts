/**
 * What Docker's check demands ("Generally Necessary"): moby/moby, contrib/check-config.sh at
 * b985e2313a8676e18072b442911fc8f64f17d440, for Linux 5.2 and later.
 */
export const DOCKER_NECESSARY: readonly string[] = [
  ...["NAMESPACES", "NET_NS", "PID_NS", "IPC_NS", "UTS_NS"],
  ...["CGROUPS", "CGROUP_CPUACCT", "CGROUP_DEVICE", "CGROUP_FREEZER", "CGROUP_SCHED", "CPUSETS", "MEMCG"],
  ...["KEYS", "VETH", "BRIDGE", "BRIDGE_NETFILTER"],
  ...["IP_NF_FILTER", "IP_NF_MANGLE", "IP_NF_TARGET_MASQUERADE", "IP_NF_RAW", "IP_NF_NAT"],
  ...["IP6_NF_FILTER", "IP6_NF_MANGLE", "IP6_NF_TARGET_MASQUERADE", "IP6_NF_RAW", "IP6_NF_NAT"],
  ...[
    "NETFILTER_XT_MATCH_ADDRTYPE",
    "NETFILTER_XT_MATCH_CONNTRACK",
    "NETFILTER_XT_MATCH_IPVS",
    "NETFILTER_XT_MARK",
  ],
  ...["NF_NAT", "POSIX_MQUEUE", "CGROUP_BPF"],
];

/** What the same script calls optional, and names under its network and storage drivers. */
export const DOCKER_OPTIONAL: readonly string[] = [
  ...["USER_NS", "SECCOMP", "SECCOMP_FILTER", "CGROUP_PIDS"],
  ...[
    "BLK_CGROUP",
    "BLK_DEV_THROTTLING",
    "CGROUP_PERF",
    "CGROUP_HUGETLB",
    "NET_CLS_CGROUP",
    "CGROUP_NET_PRIO",
  ],
  ...["CFS_BANDWIDTH", "FAIR_GROUP_SCHED", "IP_NF_TARGET_REDIRECT", "IP_SCTP"],
  ...["IP_VS", "IP_VS_NFCT", "IP_VS_PROTO_TCP", "IP_VS_PROTO_UDP", "IP_VS_RR"],
  ...["SECURITY_SELINUX", "SECURITY_APPARMOR"],
  ...["NFT_CT", "NFT_FIB_IPV4", "NFT_FIB_IPV6", "NFT_FIB", "NFT_MASQ", "NFT_NAT", "NF_TABLES"],
  ...["EXT4_FS", "EXT4_FS_POSIX_ACL", "EXT4_FS_SECURITY", "OVERLAY_FS", "BTRFS_FS", "BTRFS_FS_POSIX_ACL"],
  ...["VXLAN", "BRIDGE_VLAN_FILTERING", "IPVLAN", "MACVLAN", "DUMMY"],
  ...["CRYPTO", "CRYPTO_AEAD", "CRYPTO_GCM", "CRYPTO_SEQIV", "CRYPTO_GHASH"],
  ...["XFRM", "XFRM_USER", "XFRM_ALGO", "INET_ESP", "NETFILTER_XT_MATCH_BPF"],
  ...["NF_NAT_FTP", "NF_CONNTRACK_FTP", "NF_NAT_TFTP", "NF_CONNTRACK_TFTP"],
];

/** Optional for Docker, and left out on purpose: docs/kernel.md says why. Those of an optional part name it. */
export const DOCKER_LEFT_OUT: Readonly<Record<string, string | undefined>> = {
  IP_SCTP: "sctp",
  SECURITY_SELINUX: undefined,
  CRYPTO_SEQIV: "ipsec",
  INET_ESP: "ipsec",
  XFRM: "ipsec",
  XFRM_ALGO: "ipsec",
  XFRM_USER: "ipsec",
  SECURITY_APPARMOR: "apparmor",
  BTRFS_FS: "btrfs",
  BTRFS_FS_POSIX_ACL: "btrfs",
};

/**
 * What kubeadm's preflight checks demand: kubernetes/system-validators, validators/types_unix.go at
 * 9040bc28d5fabd3fcfe4e9c74e4b294a4dbf5e67, with both versions of cgroups and all that is optional but aufs.
 */
export const KUBERNETES: readonly string[] = [
  ...["NAMESPACES", "NET_NS", "PID_NS", "IPC_NS", "UTS_NS", "CPUSETS", "MEMCG", "INET", "EXT4_FS", "PROC_FS"],
  ...["NETFILTER_XT_TARGET_REDIRECT", "NETFILTER_XT_MATCH_COMMENT", "FAIR_GROUP_SCHED"],
  ...["CGROUPS", "CGROUP_CPUACCT", "CGROUP_DEVICE", "CGROUP_FREEZER", "CGROUP_PIDS", "CGROUP_SCHED"],
  ...[
    "CGROUP_BPF",
    "OVERLAY_FS",
    "BLK_DEV_DM",
    "CFS_BANDWIDTH",
    "SECCOMP",
    "SECCOMP_FILTER",
    "CGROUP_HUGETLB",
  ],
];

/**
 * What systemd's README asks of a kernel (REQUIREMENTS) and its units use, without what is for EFI, hardware,
 * SELinux and BPF programs that need BTF.
 */
export const SYSTEMD: readonly string[] = [
  ...[
    "DEVTMPFS",
    "CGROUPS",
    "INOTIFY_USER",
    "SIGNALFD",
    "TIMERFD",
    "EPOLL",
    "UNIX",
    "SYSFS",
    "PROC_FS",
    "FHANDLE",
  ],
  ...[
    "NET_NS",
    "USER_NS",
    "IPV6",
    "AUTOFS_FS",
    "TMPFS_XATTR",
    "TMPFS_POSIX_ACL",
    "SECCOMP",
    "SECCOMP_FILTER",
    "KCMP",
  ],
  ...[
    "NET_SCHED",
    "NET_SCH_FQ_CODEL",
    "CGROUP_SCHED",
    "FAIR_GROUP_SCHED",
    "CFS_BANDWIDTH",
    "BPF",
    "BPF_SYSCALL",
  ],
  ...[
    "BPF_JIT",
    "CGROUP_BPF",
    "PSI",
    "MEMCG",
    "DM_VERITY",
    "BLK_DEV_LOOP",
    "NF_TABLES",
    "DUMMY",
    "CRYPTO_HMAC",
  ],
  ...["CRYPTO_SHA256", "CRYPTO_USER_API_HASH", "EXT4_FS_POSIX_ACL", "BINFMT_MISC", "CHECKPOINT_RESTORE"],
];

/** What firectl's own host and guest halves rely on. */
export const FIRECTL: readonly string[] = [
  ...["VIRTIO_MMIO", "VIRTIO_BLK", "VIRTIO_NET", "VIRTIO_VSOCKETS", "HW_RANDOM_VIRTIO", "VIRTIO_BALLOON"],
  ...["VIRTIO_MEM", "VIRTIO_PMEM", "FS_DAX", "VIRTIO_FS", "VIRTIO_PCI", "VIRTIO_CONSOLE"],
  ...["EXT4_FS", "OVERLAY_FS", "EROFS_FS", "SQUASHFS", "TMPFS", "DEVTMPFS"],
  ...[
    "FUSE_FS",
    "9P_FS",
    "NET_9P_FD",
    "NET_9P_VIRTIO",
    "BLK_DEV_INITRD",
    "SERIAL_8250_CONSOLE",
    "UNIX98_PTYS",
  ],
  ...[
    "BLK_DEV_DM",
    "BLK_DEV_LOOP",
    "ZRAM",
    "SWAP",
    "HUGETLBFS",
    "IO_URING",
    "SECURITY_LANDLOCK",
    "WIREGUARD",
    "TUN",
  ],
  ...["VLAN_8021Q", "BINFMT_MISC", "PTP_1588_CLOCK_KVM", "IKCONFIG_PROC", "USERFAULTFD", "PSI"],
];
