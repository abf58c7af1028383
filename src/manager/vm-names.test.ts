import { describe, expect, test } from "vitest";
import { checkName, findByReference, inventName } from "./vm-names.ts";

const records = [
  { id: "aa000000-0000-4000-8000-000000000000", name: "web" },
  { id: "ab000000-0000-4000-8000-000000000000", name: "aa" },
  { id: "cc000000-0000-4000-8000-000000000000", name: "db" },
];

describe("findByReference", () => {
  test("prefers an exact name over a prefix of an id", () => {
    expect(findByReference(records, "aa").name).toBe("aa");
  });

  test("takes a full id, a unique prefix, a name", () => {
    expect(findByReference(records, records[1]?.id ?? "").name).toBe("aa");
    expect(findByReference(records, "cc00").name).toBe("db");
    expect(findByReference(records, "web").name).toBe("web");
  });

  test("refuses a prefix of several ids, an unknown name and an empty one", () => {
    expect(() => findByReference(records, "a")).toThrow('"a" is the beginning of 2 VM ids');
    expect(() => findByReference(records, "we")).toThrow('there is no VM "we"');
    expect(() => findByReference(records, "")).toThrow('there is no VM ""');
  });
});

describe("names", () => {
  test("an invented name is free and is itself a valid name", () => {
    const taken = new Set<string>();
    for (let i = 0; i < 4000; i++) taken.add(inventName((name) => taken.has(name)));
    expect(taken.size).toBe(4000);
    for (const name of taken) checkName(name);
  });

  test.each(["", "-a", "a/b", "a b", "a".repeat(129), "é"])("%j is refused", (name) => {
    expect(() => checkName(name)).toThrow("cannot be a VM's name");
  });
});
