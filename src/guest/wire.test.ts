import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CONTROL_MESSAGES, Phase, RootMode } from "./gen/firectl/agent/v1/control_fields.ts";
import * as generated from "./gen/firectl/agent/v1/control_pb.ts";
import { decodeMessage, encodeMessage, type Messages } from "./wire.ts";

const schemas = new Map<string, DescMessage>(
  [generated.file_firectl_agent_v1_control, ...generated.file_firectl_agent_v1_control.dependencies].flatMap(
    ({ messages }) => messages.map((schema) => [schema.name, schema] as const),
  ),
);

/** A message of any field values, defaults among them, as `create` takes it. */
function anyMessage(schema: DescMessage): fc.Arbitrary<MessageInitShape<DescMessage>> {
  const fields = Object.fromEntries(
    schema.fields.map((field) => [field.localName, anyField(field)] as const),
  );
  // The keys are those of the schema.
  return fc.record(fields, { requiredKeys: [] }) as fc.Arbitrary<MessageInitShape<DescMessage>>;
}

function anyField(field: DescMessage["fields"][number]): fc.Arbitrary<unknown> {
  switch (field.fieldKind) {
    case "message":
      return anyMessage(field.message);
    case "enum":
      return fc.integer({ min: 0, max: 5 });
    case "list":
      return fc.array(
        field.listKind === "message" ? anyMessage(field.message) : anyScalar(field.scalar ?? 5),
        {
          maxLength: 4,
        },
      );
    case "map":
      return fc.dictionary(fc.string(), anyScalar(field.mapKind === "scalar" ? field.scalar : 5), {
        maxKeys: 3,
      });
    case "scalar":
      return anyScalar(field.scalar);
  }
}

/** By the numbers of ScalarType, which are those of descriptor.proto. */
function anyScalar(type: number): fc.Arbitrary<unknown> {
  switch (type) {
    case 3:
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    case 4:
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    case 8:
      return fc.boolean();
    case 9:
      return fc.string({ unit: "grapheme" });
    case 12:
      return fc.uint8Array();
    case 13:
      return fc.integer({ min: 0, max: 0xffff_ffff });
    default:
      return fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  }
}

describe("the control drive's messages", () => {
  test.each([...schemas])("%s is on the wire what the generated code makes of it", (name, schema) => {
    fc.assert(
      fc.property(anyMessage(schema), (init) => {
        const message = create(schema, init);
        const bytes = toBinary(schema, message);
        expect(Buffer.from(encodeMessage(CONTROL_MESSAGES, name, init))).toEqual(Buffer.from(bytes));
        expect(create(schema, decodeMessage(CONTROL_MESSAGES, name, bytes))).toEqual(message);
      }),
    );
  });

  test("have the generated enumerations", () => {
    expect(Phase).toEqual(generated.Phase);
    expect(RootMode).toEqual(generated.RootMode);
  });

  test("of any bytes are a message or an error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        let status: Record<string, unknown>;
        try {
          status = decodeMessage(CONTROL_MESSAGES, "VmStatus", bytes);
        } catch {
          return;
        }
        expect(status).toMatchObject({
          phase: expect.any(Number),
          error: expect.any(String),
          startedAtUnixNs: expect.any(BigInt),
        });
      }),
      { numRuns: 500 },
    );
  });
});

describe("forms that no message has yet", () => {
  const messages: Messages = {
    Any: [
      [1, "labels", "string", "map"],
      [2, "numbers", "sint64", "list"],
      [3, "level", "int32", "optional"],
      [4, "ratio", "double"],
    ],
  };

  test.each([
    { labels: { a: "1", b: "" }, numbers: [1n, -2n], level: 0, ratio: -0 },
    { labels: {}, numbers: [], ratio: 0.5 },
  ])("come back: %o", (message) => {
    expect(decodeMessage(messages, "Any", encodeMessage(messages, "Any", message))).toEqual(message);
  });
});
