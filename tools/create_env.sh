#!/usr/bin/env bash
# Create a virtual environment from the lock of its Python, with mmreuse installed in place.
#
#   tools/create_env.sh [VENV] [PYTHON]
#   tools/create_env.sh --deepsparse [VENV] [PYTHON]
#
# VENV defaults to .venv. PYTHON defaults to the first Python 3.11, 3.12 or 3.13 found.
# With --deepsparse the environment is that of the engine DeepSparse, without mmreuse and PyTorch, for Python 3.11;
# VENV defaults to .venv-deepsparse.
# Does nothing when VENV already holds what the lock says.
set -euo pipefail
cd "$(dirname "$0")/.."
deepsparse=
versions='3.11 3.12 3.13'
size='5 GB, some minutes'
if [ "${1:-}" = --deepsparse ]; then
  deepsparse=yes
  versions=3.11
  size='1 GB'
  shift
fi
venv=${1:-.venv${deepsparse:+-deepsparse}}

fits() {  # is $1 a working Python, of a version that there is a lock for, that can make environments?
  "$1" -c 'import ensurepip, sys, venv; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $versions \
    >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in "$@"; do
    if fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "mmreuse: none of '$*' is a Python ${versions/ / or } with the venv module." >&2
  echo "Install one (on Debian 12 or later and Ubuntu 24.04: apt install python3 python3-venv), or name it by PYTHON=/path/to/python3.11" >&2
  return 1
}

if [ -x "$venv/bin/python" ]; then
  python=$venv/bin/python
else
  requested=${2:-${PYTHON:-}}
  if [ -n "$requested" ]; then
    python=$(find_python "$requested")
  else
    python=$(find_python $(printf 'python%s ' $versions) python3 python)
  fi
fi

lock=requirements/lock-${deepsparse:+deepsparse-}py$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])').txt
stamp=$venv/.mmreuse-lock
if cmp --silent "$lock" "$stamp"; then
  exit 0
fi

echo "mmreuse: installing $lock into $venv ($size)"
if [ -f "$stamp" ]; then  # ours, from another lock: what that had and this one lacks would stay
  "$("$python" -c 'import sys; print(sys._base_executable)')" -m venv --clear "$venv"
elif [ ! -x "$venv/bin/python" ]; then
  "$python" -m venv "$venv"
fi
# The lock is complete, so nothing is resolved: what CI ran is what is installed.
export MMCV_WITH_OPS=0 PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/python" -m pip install --quiet --no-deps -r "$lock"
[ -n "$deepsparse" ] || "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
"$venv/bin/python" -m pip check
cp "$lock" "$stamp"
