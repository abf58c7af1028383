import { readFileSync } from "node:fs";

/** Put in by scripts/bundle-cli.mjs, so that the program need not read and parse package.json. */
declare const FIRECTL_VERSION: string | undefined;

/** The version of this firectl. */
export function firectlVersion(): string {
  if (typeof FIRECTL_VERSION === "string") return FIRECTL_VERSION;
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const packageJson: unknown = JSON.parse(text);
  const hasVersion = typeof packageJson === "object" && packageJson !== null && "version" in packageJson;
  return hasVersion ? String(packageJson.version) : "unknown";
}
