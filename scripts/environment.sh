#!/bin/sh
# Make the project's own Python environment. Usage: environment.sh PYTHON FOLDER | environment.sh failed
# Every way in which this can fail for a newcomer ends in one sentence that says the way out.
set -u

fail() { echo "holdfast: $*" >&2; exit 1; }

if [ "${1:-}" = failed ]; then
  fail "A package could not be installed; what pip says stands above. Is PyPI in reach (proxy, mirror, disk space)? Then repeat the command: it goes on where it stopped."
fi
python=${1:-} folder=$2
[ -n "$python" ] || fail "Python 3.11 or newer is needed and was not found. Install it, or name it: make run PYTHON=/path/to/python3.12"
command -v "$python" >/dev/null 2>&1 || fail "'$python' was not found. Name a Python 3.11 or newer: make run PYTHON=python3.12"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail "'$python' is $("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null), and 3.11 or newer is needed. Name another one: make run PYTHON=python3.12"
parent=$(dirname "$folder")
[ -w "$parent" ] || fail "This folder cannot be written to ($(cd "$parent" && pwd)): copy the project to a folder of your own, or ask for the right to write."
if [ -d "$folder" ] && [ ! -w "$folder" ]; then
  fail "$folder belongs to somebody else (made as root?): remove it, then repeat the command."
fi
[ -x "$folder/bin/python" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1 && exit 0
echo "Making an environment in $folder ($("$python" --version))"
if ! said=$("$python" -m venv --clear "$folder" 2>&1); then
  case $said in
    *ensurepip*) fail "This Python lacks its venv module. On Debian and Ubuntu: apt install python3-venv; then repeat the command." ;;
    *) fail "The environment could not be made: $said" ;;
  esac
fi
