import type { FirectlOperations } from "../manager/api.ts";
import type { Interrupts } from "./interrupts.ts";
import type { CliIo } from "./io.ts";
import type { ProgressDisplay } from "./progress.ts";

interface FlagText {
  /** One letter, without the dash. */
  readonly short?: string;
  readonly summary: string;
  /** Heading in the help under which the flag stands; "Options" when absent. */
  readonly group?: string;
  readonly hidden?: boolean;
}

/** A switch: present or not; `--flag=false` turns it off again. */
interface BooleanFlag extends FlagText {
  readonly kind: "boolean";
}

/** A flag with a value; the last one given counts. */
interface ValueFlag<T> extends FlagText {
  readonly kind: "value";
  /** Stands for the value in the help. */
  readonly placeholder: string;
  /** Reads the value; `flag` is what the user wrote, for errors. */
  readonly parse: (text: string, flag: string) => T;
}

/** A flag that may be given several times. */
interface ListFlag<T> extends FlagText {
  readonly kind: "list";
  readonly placeholder: string;
  readonly parse: (text: string, flag: string) => T;
}

export type Flag = BooleanFlag | ValueFlag<unknown> | ListFlag<unknown>;
export type Flags = Readonly<Record<string, Flag>>;

/** What a handler sees of its flags. */
type FlagValues<F extends Flags> = {
  readonly [Name in keyof F]: F[Name] extends BooleanFlag
    ? boolean
    : F[Name] extends ListFlag<infer T>
      ? readonly T[]
      : F[Name] extends ValueFlag<infer T>
        ? T | undefined
        : never;
};

/** What every handler is handed. */
export interface CommandContext {
  readonly io: CliIo;
  /** `--json`: results and errors for programs. */
  readonly json: boolean;
  /** Loads the library and opens the state; commands that fail before it cost nothing. */
  firectl(): Promise<FirectlOperations>;
  readonly interrupts: Interrupts;
  /** A progress display on stderr; it is stopped when the command ends, if not before. */
  progress(options: { quiet: boolean }): Promise<ProgressDisplay>;
  /** Prints an error and returns its exit status: for commands that go on after one. */
  reportFailure(error: unknown): number;
}

export interface CommandInput<F extends Flags> {
  readonly flags: FlagValues<F>;
  /** Names of the flags that the user gave. */
  readonly given: ReadonlySet<string>;
  readonly args: readonly string[];
}

/** A command as data: what the help, the parser and the dispatcher need. */
export interface CommandDefinition<F extends Flags> {
  /** As typed, for instance `kernel add`. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** Further paragraphs of the help. */
  readonly description?: string;
  /** Usage of the positional arguments. */
  readonly arguments: string;
  readonly minArguments: number;
  readonly maxArguments: number;
  /** Everything after the first positional argument belongs to the guest's command, dashes too. */
  readonly passThrough?: boolean;
  readonly flags: F;
  readonly examples: readonly string[];
  /** Exit status of firectl's own failures, where the guest's status is passed on: 125 as in Docker. */
  readonly failureStatus?: number;
  /** The switches without which the guest's status is not passed on, and firectl's failures have their own. */
  readonly failureStatusFlags?: readonly (keyof F & string)[];
  /** Returns the exit status; nothing means 0. */
  handler(input: CommandInput<F>, context: CommandContext): Promise<number | undefined>;
}

export type Command = CommandDefinition<Flags>;

/** Checks that a handler fits its flags, then forgets their types. */
export function defineCommand<const F extends Flags>(definition: CommandDefinition<F>): Command {
  // The parser builds the values from the very same `flags`, so the handler gets what its type says.
  return definition as unknown as Command;
}

/** A group of commands under one word, as `firectl kernel`. */
export interface CommandGroup {
  readonly name: string;
  readonly summary: string;
  readonly commands: readonly Command[];
}
