#!/usr/bin/env bash
# Create a virtual environment from the lock of its Python, with mmreuse installed in place.
#
#   tools/create_env.sh [VENV] [PYTHON]
#
# VENV defaults to .venv. PYTHON defaults to the first Python 3.11 or 3.12 found.
# Does nothing when VENV already holds what the lock says.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

fits() {  # is $1 a working Python 3.11 or 3.12 that can make environments?
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in "$@"; do
    if fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "mmreuse: none of '$*' is a Python 3.11 or 3.12 with the venv module." >&2
  echo "Install one (on Debian and Ubuntu: apt install python3.11 python3.11-venv), or name it: make env PYTHON=/path/to/python3.11" >&2
  return 1
}

if [ -x "$venv/bin/python" ]; then
  python=$venv/bin/python
else
  requested=${2:-${PYTHON:-}}
  if [ -n "$requested" ]; then
    python=$(find_python "$requested")
  else
    python=$(find_python python3.11 python3.12 python3 python)
  fi
fi

lock=requirements/lock-py$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
stamp=$venv/.mmreuse-lock
if cmp --silent "$lock" "$stamp"; then
  exit 0
fi

echo "mmreuse: installing $lock into $venv (5 GB, some minutes)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# The lock is complete, so nothing is resolved: what CI ran is what is installed.
export MMCV_WITH_OPS=0 PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/python" -m pip install --quiet --no-deps -r "$lock"
"$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
"$venv/bin/python" -m pip check
cp "$lock" "$stamp"
