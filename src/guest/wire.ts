/**
 * Protocol Buffers' encoding of the control drive's messages, by tables that the build of `proto/` writes. The
 * generated code proper (`toBinary`, `fromBinary`) builds descriptors of everything when it is loaded, which takes
 * longer than all the rest of a start; on the wire both are the same.
 * https://protobuf.dev/programming-guides/encoding/
 */
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** Scalar types by their names in a .proto file, and enumerations. */
type ScalarType =
  | "bool"
  | "bytes"
  | "double"
  | "enum"
  | "fixed32"
  | "fixed64"
  | "float"
  | "int32"
  | "int64"
  | "sfixed32"
  | "sfixed64"
  | "sint32"
  | "sint64"
  | "string"
  | "uint32"
  | "uint64";

/** Number, name, type (that of a message begins with a capital) and, unless it is a plain one, the form of a field. */
export type Field = readonly [number: number, name: string, type: string, form?: "list" | "map" | "optional"];

/** The messages of a file by name. */
export type Messages = Readonly<Record<string, readonly Field[]>>;

type Value = bigint | boolean | number | string | Uint8Array;
type Message = Record<string, unknown>;

/** The bytes of `message`, which has the fields that `messages` names for `type`; absent ones have their defaults. */
export function encodeMessage(messages: Messages, type: string, message: object): Uint8Array {
  const writer = new BinaryWriter();
  writeFields(writer, messages, type, message as Message); // Any object has string keys, with values of some kind.
  return writer.finish();
}

/**
 * The message in `bytes`; absent fields have their defaults, unknown ones are passed over.
 * @throws Error when the bytes are no such message.
 */
export function decodeMessage(messages: Messages, type: string, bytes: Uint8Array): Record<string, unknown> {
  const reader = new BinaryReader(bytes);
  return readFields(reader, messages, { type, end: reader.len, into: emptyMessage(messages, type) });
}

function writeFields(writer: BinaryWriter, messages: Messages, type: string, message: Message): void {
  for (const [number, name, fieldType, form] of fieldsOf(messages, type)) {
    const value = message[name];
    if (value === undefined) continue;
    if (form === "list") {
      writeList(writer, messages, { number, type: fieldType, values: value as unknown[] }); // so says the table
    } else if (form === "map") {
      for (const [key, entry] of Object.entries(value as Message)) {
        writer.tag(number, WireType.LengthDelimited).fork();
        writer.tag(1, WireType.LengthDelimited).string(key);
        writeOne(writer, messages, { number: 2, type: fieldType, value: entry });
        writer.join();
      }
    } else if (form === "optional" || isMessage(fieldType) || !isDefault(value)) {
      writeOne(writer, messages, { number, type: fieldType, value });
    }
  }
}

function writeList(
  writer: BinaryWriter,
  messages: Messages,
  field: { number: number; type: string; values: readonly unknown[] },
): void {
  const { number, type, values } = field;
  if (wireTypeOf(type) === WireType.LengthDelimited) {
    for (const value of values) writeOne(writer, messages, { number, type, value });
  } else if (values.length > 0) {
    writer.tag(number, WireType.LengthDelimited).fork();
    for (const value of values) writeScalar(writer, type, value);
    writer.join();
  }
}

function writeOne(
  writer: BinaryWriter,
  messages: Messages,
  field: { number: number; type: string; value: unknown },
): void {
  const { number, type, value } = field;
  writer.tag(number, wireTypeOf(type));
  if (!isMessage(type)) {
    writeScalar(writer, type, value);
    return;
  }
  writer.fork();
  writeFields(writer, messages, type, value as Message); // so says the table
  writer.join();
}

function writeScalar(writer: BinaryWriter, type: string, value: unknown): void {
  const method = type === "enum" ? "int32" : (type as Exclude<ScalarType, "enum">);
  // BinaryWriter has a method for each scalar type, of its name, and checks what it is given.
  (writer[method] as (value: unknown) => BinaryWriter).call(writer, value);
}

interface Reading {
  readonly type: string;
  readonly end: number;
  readonly into: Message;
}

function readFields(reader: BinaryReader, messages: Messages, { type, end, into }: Reading): Message {
  const fields = fieldsOf(messages, type);
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    const field = fields.find(([known]) => known === number);
    if (field === undefined) reader.skip(wireType, number);
    else readField(reader, messages, { field, wireType, into });
  }
  return into;
}

function readField(
  reader: BinaryReader,
  messages: Messages,
  { field, wireType, into }: { field: Field; wireType: WireType; into: Message },
): void {
  const [number, name, type, form] = field;
  const expected = wireTypeOf(type);
  if (form === "map") {
    const entry = readFields(
      reader,
      {
        Entry: [
          [1, "key", "string"],
          [2, "value", type],
        ],
        ...messages,
      },
      {
        type: "Entry",
        end: reader.uint32() + reader.pos,
        into: { key: "", value: defaultOf(type) },
      },
    );
    Object.assign(into[name] as Message, { [String(entry["key"])]: entry["value"] });
  } else if (form === "list") {
    const list = into[name] as unknown[]; // made by emptyMessage()
    const isPacked = wireType === WireType.LengthDelimited && expected !== WireType.LengthDelimited;
    if (!isPacked) {
      if (wireType !== expected) reader.skip(wireType, number);
      else list.push(readOne(reader, messages, { type, before: undefined }));
      return;
    }
    for (const end = reader.uint32() + reader.pos; reader.pos < end; ) list.push(readScalar(reader, type));
  } else if (wireType !== expected) {
    reader.skip(wireType, number);
  } else {
    // Of a message that comes twice, the fields add up.
    into[name] = readOne(reader, messages, { type, before: into[name] });
  }
}

function readOne(
  reader: BinaryReader,
  messages: Messages,
  { type, before }: { type: string; before: unknown },
): unknown {
  if (!isMessage(type)) return readScalar(reader, type);
  const into = (before as Message | undefined) ?? emptyMessage(messages, type);
  return readFields(reader, messages, { type, end: reader.uint32() + reader.pos, into });
}

function readScalar(reader: BinaryReader, type: string): Value {
  if (type === "enum") return reader.int32();
  const value = reader[type as Exclude<ScalarType, "enum">]();
  // 64 bits are strings where the engine lacks bigint, which no Node does.
  return is64Bit(type) ? BigInt(value as bigint | string) : value;
}

function emptyMessage(messages: Messages, type: string): Message {
  const empty: Message = {};
  for (const [, name, fieldType, form] of fieldsOf(messages, type)) {
    if (form === "list") empty[name] = [];
    else if (form === "map") empty[name] = {};
    else if (form !== "optional" && !isMessage(fieldType)) empty[name] = defaultOf(fieldType);
  }
  return empty;
}

function fieldsOf(messages: Messages, type: string): readonly Field[] {
  const fields = messages[type];
  if (fields === undefined) throw new Error(`there is no message ${type}`);
  return fields;
}

function isMessage(type: string): boolean {
  return type.charAt(0) <= "Z";
}

function is64Bit(type: string): boolean {
  return type.endsWith("64");
}

function isDefault(value: unknown): boolean {
  if (value instanceof Uint8Array) return value.length === 0;
  // -0 is not the default of a double.
  return value === "" || value === false || value === 0n || Object.is(value, 0);
}

function defaultOf(type: string): Value {
  switch (type) {
    case "bool":
      return false;
    case "bytes":
      return new Uint8Array();
    case "string":
      return "";
    default:
      return is64Bit(type) ? 0n : 0;
  }
}

function wireTypeOf(type: string): WireType {
  switch (type) {
    case "double":
    case "fixed64":
    case "sfixed64":
      return WireType.Bit64;
    case "float":
    case "fixed32":
    case "sfixed32":
      return WireType.Bit32;
    case "bytes":
    case "string":
      return WireType.LengthDelimited;
    default:
      return isMessage(type) ? WireType.LengthDelimited : WireType.Varint;
  }
}
