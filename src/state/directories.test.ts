import { describe, expect, test } from "vitest";
import { directoriesOf } from "./directories.ts";

describe("directoriesOf", () => {
  test("gives root the system directories", () => {
    expect(directoriesOf({ HOME: "/root" }, { uid: 0 })).toEqual({
      config: "/root/.config/firectl",
      data: "/var/lib/firectl",
      runtime: "/run/firectl",
    });
  });

  test("gives a user the XDG directories", () => {
    const env = {
      HOME: "/home/u",
      XDG_RUNTIME_DIR: "/run/user/7",
      XDG_DATA_HOME: "/data",
      XDG_CONFIG_HOME: "/etc/u",
    };
    expect(directoriesOf(env, { uid: 7 })).toEqual({
      config: "/etc/u/firectl",
      data: "/data/firectl",
      runtime: "/run/user/7/firectl",
    });
  });

  test("keeps users apart where there is no XDG_RUNTIME_DIR", () => {
    expect(directoriesOf({ HOME: "/home/u" }, { uid: 7 }).runtime).toMatch(/\/firectl-7$/);
  });

  test("lets the environment win over the configuration file", () => {
    const overrides = { dataDirectory: "/from-file", runtimeDirectory: "/run/from-file" };
    const env = { HOME: "/home/u", FIRECTL_DATA_DIR: "/from-env" };
    expect(directoriesOf(env, { uid: 7, overrides })).toMatchObject({
      data: "/from-env",
      runtime: "/run/from-file",
    });
  });

  test("refuses a relative directory and one too long for sockets", () => {
    expect(() => directoriesOf({ HOME: "/h", FIRECTL_DATA_DIR: "data" }, { uid: 7 })).toThrow(
      'the data directory "data" is not an absolute path',
    );
    const fits = `/${"r".repeat(58)}`;
    expect(directoriesOf({ HOME: "/h", FIRECTL_RUNTIME_DIR: fits }, { uid: 7 }).runtime).toBe(fits);
    expect(() => directoriesOf({ HOME: "/h", FIRECTL_RUNTIME_DIR: `${fits}r` }, { uid: 7 })).toThrow(
      "is longer than 59 bytes",
    );
  });
});
