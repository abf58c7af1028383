import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/** The top of the checkout. */
export const ROOT: string = path.resolve(import.meta.dirname, "../..");

/** Folders that hold nothing of ours, or nothing that is written by hand. */
const SKIPPED = new Set(["node_modules", "target", "dist", "coverage", ".git", ".cache"]);

/** All Markdown files of the checkout, as paths from its top. */
export function markdownFiles(directory: string = ROOT): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const full = path.join(directory, entry.name);
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : markdownFiles(full);
    return entry.name.endsWith(".md") ? [path.relative(ROOT, full)] : [];
  });
}

export function readText(file: string): string {
  return readFileSync(path.join(ROOT, file), "utf8");
}

interface Heading {
  readonly level: number;
  readonly text: string;
}

interface Fence {
  readonly language: string;
  readonly text: string;
}

export interface Markdown {
  readonly headings: readonly Heading[];
  readonly fences: readonly Fence[];
  /** Everything outside fenced blocks. */
  readonly prose: string;
}

/** Takes a text apart into fenced code blocks and the rest. https://spec.commonmark.org/0.31.2/ */
export function parseMarkdown(text: string): Markdown {
  const headings: Heading[] = [];
  const fences: Fence[] = [];
  const prose: string[] = [];
  let open: { mark: string; language: string; lines: string[] } | undefined;
  for (const line of text.split("\n")) {
    const fence = /^(`{3,}|~{3,})(.*)$/.exec(line);
    if (open !== undefined) {
      if (line === open.mark) {
        fences.push({ language: open.language, text: open.lines.join("\n") });
        open = undefined;
      } else open.lines.push(line);
    } else if (fence !== null) {
      open = { mark: fence[1] ?? "", language: (fence[2] ?? "").trim(), lines: [] };
    } else {
      const heading = /^(#{1,6}) (.*)$/.exec(line);
      if (heading !== null) headings.push({ level: (heading[1] ?? "").length, text: heading[2] ?? "" });
      prose.push(line);
    }
  }
  if (open !== undefined) throw new Error(`a code block of ${open.language} is not closed`);
  return { headings, fences, prose: prose.join("\n") };
}

/** Text of the code spans in `prose`. */
export function codeSpans(prose: string): string[] {
  // A table's cells are cut at bars first, so that one within code is escaped.
  return [...prose.matchAll(/`([^`\n]+)`/g)].map((match) => (match[1] ?? "").replaceAll("\\|", "|"));
}

/** Targets of the links in `prose`, images too. */
export function linkTargets(prose: string): string[] {
  const withoutCode = prose.replaceAll(/`[^`\n]+`/g, "");
  return [...withoutCode.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? "");
}

/** The anchor that GitHub gives a heading. */
export function anchorOf(heading: string): string {
  const kept = heading.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, "");
  return kept.trim().replaceAll(/\s/g, "-");
}

/** `{a,b}` in a path, as shells expand it. */
export function expandBraces(text: string): string[] {
  const match = /^(.*?)\{([^{}]*)\}(.*)$/.exec(text);
  if (match === null) return [text];
  const [, before = "", choices = "", after = ""] = match;
  return choices.split(",").flatMap((choice) => expandBraces(`${before}${choice}${after}`));
}
