#!/usr/bin/env bash
# Makes .env for docker-compose.yml with random values, readable by you alone. Values that are there stay.
#   scripts/compose-env.sh
set -euo pipefail
. "$(dirname "$0")/services/lib.sh"
cd "$root"
umask 077
touch .env
chmod 600 .env
while IFS='=' read -r name _; do
  case $name in '' | '#'*) continue ;; esac
  grep -q "^$name=." .env && continue
  { grep -v "^$name=" .env || true; } > .env.new
  printf '%s=%s\n' "$name" "$(random 32)" >> .env.new
  mv .env.new .env
  echo "$name: made"
done < .env.example
