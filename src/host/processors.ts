import { availableParallelism } from "node:os";

/**
 * Threads that unpack layers side by side, and so layers that are open at a time: one for each processor, two at least,
 * so that a small layer holds nothing up, and four at most, since a further one costs more memory than it saves time.
 */
export const PARALLEL_LAYERS: number = Math.max(2, Math.min(availableParallelism(), 4));
