#!/usr/bin/env bash
# Resolve pyproject.toml into requirements/core.lock and requirements/dev.lock: exact versions, with the hash of every file
# of each version, so one lock serves every platform and Python. Resolve on the oldest supported Python (3.11): what newer
# ones leave out is a harmless superset. Uses whatever index pip is configured with and writes none into the files.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3.11}"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
  echo "lock: resolve on Python 3.11 (the oldest supported); set PYTHON=" >&2
  exit 1
}
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT

echo "lock: preparing pip-tools"
"$python" -m venv "$tools/env"
"$tools/env/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements/lock-tools.txt

compile() { # compile <lock file> <arguments…>
  local out="$1"
  shift
  CUSTOM_COMPILE_COMMAND="make lock" "$tools/env/bin/pip-compile" pyproject.toml --output-file "$out" \
    --quiet --generate-hashes --allow-unsafe --strip-extras --newline lf --resolver backtracking \
    --no-config --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options "$@"
  echo "lock: $out pins $(grep -c '^[a-z0-9].*==' "$out") distributions"
}

upgrade=()
[ "${UPGRADE:-}" = 1 ] && upgrade=(--upgrade) # without it, versions that still fit are kept
compile requirements/core.lock "${upgrade[@]}"
compile requirements/dev.lock "${upgrade[@]}" --extra dev --constraint requirements/core.lock
