/**
 * The bodies of Firecracker's API that firectl writes, in the API's own names.
 * https://github.com/firecracker-microvm/firecracker/blob/main/src/firecracker/swagger/firecracker.yaml
 */
interface BootSource {
  readonly kernel_image_path: string;
  readonly initrd_path?: string;
  readonly boot_args?: string;
}

interface BlockDevice {
  readonly drive_id: string;
  readonly path_on_host: string;
  readonly is_root_device: boolean;
  readonly is_read_only: boolean;
  readonly cache_type: "Unsafe" | "Writeback";
  readonly rate_limiter?: RateLimiter;
}

/** Of a disk, each bucket is used up by reads and writes alike. */
export interface RateLimiter {
  /** In bytes. */
  readonly bandwidth: TokenBucket;
  readonly ops: TokenBucket;
}

/** The limiters are of what the guest receives and of what it sends. */
interface NetworkInterface {
  readonly iface_id: string;
  readonly guest_mac: string;
  readonly host_dev_name: string;
  readonly rx_rate_limiter?: RateLimiter;
  readonly tx_rate_limiter?: RateLimiter;
}

/** One PATCH of a machine that runs. */
export type ChangeCall =
  | { readonly path: "/balloon"; readonly body: Pick<BalloonDevice, "amount_mib"> }
  | {
      readonly path: `/drives/${string}`;
      readonly body: { readonly drive_id: string; readonly rate_limiter: RateLimiter };
    }
  | {
      readonly path: `/network-interfaces/${string}`;
      readonly body: Required<Pick<NetworkInterface, "iface_id" | "rx_rate_limiter" | "tx_rate_limiter">>;
    };

/** Since 1.14. */
interface PmemDevice {
  readonly id: string;
  readonly path_on_host: string;
  readonly root_device: boolean;
  readonly read_only: boolean;
}

/** Free page reporting since 1.14. */
interface BalloonDevice {
  readonly amount_mib: number;
  readonly deflate_on_oom: boolean;
  readonly free_page_reporting?: boolean;
}

interface MachineConfig {
  readonly vcpu_count: number;
  readonly mem_size_mib: number;
}

interface VsockDevice {
  readonly guest_cid: number;
  readonly uds_path: string;
}

/** Since 1.14; the rate limiter since 1.16. */
export interface SerialDevice {
  readonly serial_out_path: string;
  readonly rate_limiter: TokenBucket;
}

/** `size` tokens at the start, and as many again every `refill_time` milliseconds. */
interface TokenBucket {
  readonly size: number;
  readonly refill_time: number;
}

/** One PUT that configures the machine before it starts, or is the start of one that goes on from a snapshot. */
export type ConfigurationCall =
  | { readonly path: "/boot-source"; readonly body: BootSource }
  | { readonly path: `/drives/${string}`; readonly body: BlockDevice }
  | { readonly path: `/pmem/${string}`; readonly body: PmemDevice }
  | { readonly path: `/network-interfaces/${string}`; readonly body: NetworkInterface }
  | { readonly path: "/machine-config"; readonly body: MachineConfig }
  | { readonly path: "/vsock"; readonly body: VsockDevice }
  | { readonly path: "/balloon"; readonly body: BalloonDevice }
  | { readonly path: "/entropy"; readonly body: Readonly<Record<string, never>> }
  | { readonly path: "/serial"; readonly body: SerialDevice }
  | { readonly path: "/snapshot/load"; readonly body: SnapshotLoadParams };

/** PUT /snapshot/create. Without track_dirty_pages, `Diff` since 1.13. */
export interface SnapshotCreateParams {
  readonly snapshot_type: "Diff";
  readonly snapshot_path: string;
  readonly mem_file_path: string;
}

/** PUT /snapshot/load. */
interface SnapshotLoadParams {
  readonly snapshot_path: string;
  readonly mem_backend: { readonly backend_type: "File"; readonly backend_path: string };
  readonly resume_vm: boolean;
}

/** A PUT whose body is the user's own: Firecracker is its judge. */
export interface RawCall {
  readonly path: string;
  readonly body: unknown;
}

export type InstanceAction = "InstanceStart" | "SendCtrlAltDel" | "FlushMetrics";
