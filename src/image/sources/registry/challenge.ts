/** One challenge of a WWW-Authenticate header: the scheme in lower case, parameters by lower-case name. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** Longer headers are not read: parsing is linear, but nobody needs them. */
const MAX_HEADER_LENGTH = 8192;

const SCHEME = /[ \t,]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?=[ \t]|,|$)[ \t]*/y;
const PARAMETER =
  /[ \t,]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))[ \t]*/y;

/**
 * Reads the challenges of a WWW-Authenticate header; what cannot be read is left out.
 * https://www.rfc-editor.org/rfc/rfc9110#name-www-authenticate
 */
export function parseChallenges(header: string): readonly Challenge[] {
  if (header.length > MAX_HEADER_LENGTH) return [];
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let position = 0;
  while (position < header.length) {
    PARAMETER.lastIndex = position;
    const parameter = PARAMETER.exec(header);
    const current = challenges.at(-1);
    if (parameter !== null && current !== undefined) {
      const [, name = "", quoted, token] = parameter;
      current.parameters.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, "$1") ?? token ?? "");
      position = PARAMETER.lastIndex;
      continue;
    }
    SCHEME.lastIndex = position;
    const scheme = SCHEME.exec(header);
    if (scheme === null) break;
    challenges.push({ scheme: (scheme[1] ?? "").toLowerCase(), parameters: new Map() });
    position = SCHEME.lastIndex;
  }
  return challenges;
}
