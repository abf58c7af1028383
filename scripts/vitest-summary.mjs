// vitest-summary.mjs REPORT: of vitest's JSON report, "PASSED FAILED SKIPPED" on standard output, and what failed on
// standard error, a test and the first lines of why. A file that failed outside its tests counts as one.
import { readFileSync } from "node:fs";
import { relative } from "node:path";

const LINES_OF_WHY = 12;

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));
const failures = report.testResults.flatMap(({ name, status, message, assertionResults }) => {
  const file = relative("", name);
  const failed = assertionResults.filter((test) => test.status === "failed");
  const outside = status === "failed" && failed.length === 0;
  if (outside) return [{ title: file, why: message || "failed outside its tests" }];
  return failed.map((test) => ({ title: `${file}: ${test.fullName}`, why: test.failureMessages.join("\n") }));
});
for (const { title, why } of failures) {
  const indented = why
    .split("\n")
    .filter((line) => !line.includes("/node_modules/"))
    .slice(0, LINES_OF_WHY)
    .map((line) => `    ${line}`);
  console.error([title, ...indented].join("\n"));
}
console.log(report.numPassedTests, failures.length, report.numPendingTests + report.numTodoTests);
