import { defineConfig } from "vitest/config";

// biome-ignore lint/style/noDefaultExport: vitest loads its configuration from the default export.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/unit/**/*.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          globalSetup: ["test/e2e/global-setup.ts"],
          // Real guests under software emulation: a boot takes seconds, and two cores carry them all.
          // An emulated machine that runs Firecracker takes ten times as long as one that runs QEMU.
          testTimeout: process.env["FIRECTL_E2E_VMM"] === "firecracker" ? 1_800_000 : 300_000,
          hookTimeout: 900_000,
          fileParallelism: false,
          sequence: { concurrent: false },
        },
      },
    ],
  },
});
