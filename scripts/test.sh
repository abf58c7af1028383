#!/usr/bin/env bash
# All tests from a fresh clone: installs what is missing, builds, checks, runs unit and end-to-end tests, and
# ends with what failed, by name, and the sum: `N passed, N failed, N skipped`. `test.sh e2e` runs only the
# end-to-end part.
set -euo pipefail

cd "$(dirname "$0")/.."
part=${1:-all}
results=.cache/results
rm -rf "$results"
mkdir -p "$results"
export PATH=$PWD/.cache/tools/bin:$PATH

scripts/prerequisites.sh test
make --no-print-directory build

# A check that is no test runner counts as one test.
passed=0 failed=0 skipped=0
failures=$results/failures
: >"$failures"
step() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    printf '== %s FAILED\n' "$name"
    echo "$name" >>"$failures"
  fi
}

# vitest_project NAME: runs it and adds its counts.
vitest_project() {
  local json=$results/$1.json counts
  printf '\n== vitest, project %s\n' "$1"
  npx vitest run --project "$1" --reporter=default --reporter=json --outputFile.json="$json" || true
  counts=$(node scripts/vitest-summary.mjs "$json" 2>>"$failures") || counts="0 1 0"
  read -r p f s <<<"$counts"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

cargo_tests() {
  printf '\n== cargo test\n'
  local log=$results/cargo.log ok=true
  (cd agent && cargo test --locked --no-fail-fast 2>&1) | tee "$log" || ok=false
  sed -n 's/^test \(.*\) \.\.\. FAILED$/cargo test: \1/p' "$log" >>"$failures"
  read -r p f s < <(awk '/^test result:/ { p += $4; f += $6; s += $8 } END { print p + 0, f + 0, s + 0 }' "$log")
  if ! $ok && [ "$f" = 0 ]; then
    f=1
    echo "cargo test could not run; see above" >>"$failures"
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

if [ "$part" = all ]; then
  step "types" npm run --silent typecheck
  step "lint" npm run --silent lint
  step "dead code" npm run --silent dead
  step "proto lint" npm run --silent proto:lint
  step "generated code is up to date" make --no-print-directory check-proto
  step "package shape" make --no-print-directory check-package
  step "shell scripts" shellcheck scripts/*.sh kernel/*.sh test/images/*.sh test/fixtures/*.sh .ci/run
  step "rustfmt" bash -c 'cd agent && cargo fmt --check'
  step "clippy" bash -c 'cd agent && cargo clippy --locked --all-targets -- -D warnings'
  cargo_tests
  vitest_project unit
fi
vitest_project e2e

if [ "$failed" != 0 ]; then
  printf '\n== failed\n'
  cat "$failures"
fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
