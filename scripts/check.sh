#!/usr/bin/env bash
# Run the named steps in order, one line each, and show a step's own output only when it fails. The tests speak for
# themselves. Every step runs even when an earlier one failed: one run tells everything that is wrong.
set -uo pipefail
cd "$(dirname "$0")/.."

unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1
python=.venv/bin/python
output="$(mktemp)"
trap 'rm -f "$output"' EXIT
failed=()

# shellcheck disable=SC2086 # ARGS is a list of arguments on purpose
run() {
  case "$1" in
    format) "$python" -m ruff format --check --output-format concise . ;;
    lint) "$python" -m ruff check --output-format concise . ;;
    types) "$python" -m mypy ;;
    contracts) .venv/bin/lint-imports --no-logo ;;
    tests) "$python" -m pytest ${JOBS:+-n "$JOBS" --dist loadfile} ${ARGS:-} ;;
    *) echo "no step is called \`$1\`" && return 2 ;;
  esac
}

step() {
  local started=$SECONDS ok=ok
  if [ "$1" = tests ]; then
    run tests </dev/null || ok=FAILED
  else
    run "$1" >"$output" 2>&1 </dev/null || ok=FAILED
  fi
  [ "$ok" = ok ] || failed+=("$1")
  printf 'check: %-10s %s (%d s)\n' "$1" "$ok" $((SECONDS - started))
  if [ "$ok" = FAILED ] && [ "$1" != tests ]; then sed 's/^/  /' "$output"; fi
}

for name in "$@"; do step "$name"; done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'check: NOT OK after %d s: %s\n' "$SECONDS" "${failed[*]}" >&2
  exit 1
fi
printf 'check: all ok in %d s: %s\n' "$SECONDS" "$*"
