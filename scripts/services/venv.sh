#!/usr/bin/env bash
# A Python environment with the other engines that read Firn's tables in tests: PyIceberg, DuckDB with its own
# Iceberg extension, ADBC for Flight SQL. Versions in requirements.txt.
#   venv.sh [DIR]     make it in DIR, default .tools/venv, unless it is there; prints the path of its python
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

fill() {
  need python3 python3 python3-venv
  if ! python3 -m venv "$1"; then
    packages python3-venv && python3 -m venv --clear "$1" ||
      die "python3 has no venv module: install it (Debian: apt-get install python3-venv)"
  fi
  "$1/bin/python" -m pip --disable-pip-version-check -q install --only-binary :all: -r "$here/requirements.txt"
}

dir=${1:-$tools/venv}
stamp=$dir/.requirements
mkdir -p "$(dirname "$dir")"
exec 9> "$dir.lock" # packages of tests run side by side, and one would take away what the other is filling
command -v flock > /dev/null && flock 9
if ! cmp -s "$here/requirements.txt" "$stamp"; then
  rm -rf "$dir"
  fill "$dir" >&2 || { rm -rf "$dir"; die "could not make the Python environment in $dir"; }
  cp "$here/requirements.txt" "$stamp"
fi
echo "$dir/bin/python"
