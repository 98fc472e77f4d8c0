#!/usr/bin/env bash
# Create .venv from requirements/dev.lock and install the package into it, editable and without resolving anything.
# Runs once: a stamp in .venv names the place, the interpreter and the inputs it was made from, and a fresh stamp means
# there is nothing to do. Needs Python 3.11 or newer and some pip; says what to install when there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

# A caller's own Python or pip settings must not leak into the environment that is made here.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONNOUSERSITE=1 PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

lock=requirements/dev.lock
stamp=.venv/setup-stamp

fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

runs_python() { # whether $1 is a Python that is new enough (a version manager's shim may exist and not run)
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    runs_python "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer that runs"
    echo "$PYTHON"
    return
  fi
  local name
  for name in python3.11 python3 python3.12 python3.13 python3.14; do
    if runs_python "$name"; then
      echo "$name"
      return
    fi
  done
  fail "no Python 3.11 or newer was found" \
    "on Debian or Ubuntu: sudo apt-get install python3 python3-venv; or name one with PYTHON=/path/to/python"
}

# Without ensurepip (Debian keeps it in python3-venv) any other pip that can install for a foreign interpreter will do:
# that of another Python here, or the wheel that Debian's virtualenv and pipx bring along.
find_foreign_pip() {
  local name wheel
  for name in "$python" python3 python3.11 python3.12 python3.13 python3.14; do
    if "$name" -m pip --python "$python" --version >/dev/null 2>&1; then
      echo "$name -m pip"
      return
    fi
  done
  for wheel in /usr/share/python-wheels/pip-*.whl; do
    if "$python" "$wheel/pip" --version >/dev/null 2>&1; then
      echo "$python $wheel/pip"
      return
    fi
  done
  fail "$python has neither ensurepip nor a pip that could stand in for it" \
    "on Debian or Ubuntu: sudo apt-get install python3-venv; or name another Python with PYTHON=/path/to/python"
}

fits() { # whether .venv was made here, from these inputs, and (when PYTHON is set) with that Python
  local made_from made_with
  { read -r made_from && read -r made_with; } 2>/dev/null <"$stamp" || return 1
  [ "$made_from" = "$identity" ] && [ "$made_with" = "${PYTHON:-$made_with}" ] && runs_python .venv/bin/python
}

identity="$(cat "$lock" pyproject.toml scripts/setup.sh | cksum) $(pwd -P)"
[ -f "$stamp" ] && fits && exit 0

python="$(find_python)"
started=$SECONDS
echo "setup: making .venv with $("$python" --version), $(grep -c '^[a-z0-9].*==' "$lock") locked distributions (about a minute)"
rm -rf .venv
if "$python" -c 'import ensurepip, venv; ensurepip.version()' >/dev/null 2>&1; then
  "$python" -m venv .venv
  pip=".venv/bin/python -m pip"
else
  pip="$(find_foreign_pip) --python .venv/bin/python"
  "$python" -m venv --without-pip .venv
fi

quietly() { # run the rest of the line; show what it said only when it fails
  local said
  said="$("${@:2}" 2>&1)" || fail "$1 did not work:" "$said"
}

# Wheels only: nothing is built from source, so nothing outside the lock takes part.
# shellcheck disable=SC2086 # $pip is a command with arguments, split on purpose
quietly "installing $lock (is the package registry reachable?)" \
  $pip install --require-hashes --no-deps --only-binary :all: -r "$lock"
# shellcheck disable=SC2086
quietly "installing the package itself" \
  $pip install --no-deps --no-build-isolation --no-index -e .
printf '%s\n' "$identity" "$python" >"$stamp"
echo "setup: done in $((SECONDS - started)) s"
