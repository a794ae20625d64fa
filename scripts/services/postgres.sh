#!/usr/bin/env bash
# A Postgres server on 127.0.0.1, for tests, from the system's packages (Debian: postgresql).
#   postgres.sh prepare            make sure that it is installed
#   postgres.sh start DIR PORT [SETTING=VALUE...]
#                                  a server whose files are in DIR, with a user and a database "firn"
#   postgres.sh stop DIR
# The password is random and made once per DIR: DIR/credentials, to be sourced, has PGPASSWORD. Started by root it runs as
# the user postgres, as it refuses to run as root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

# where: the directory of the newest version's programs, which Debian keeps off the path.
where() {
  local p
  p=$(find /usr/lib/postgresql -path '*/bin/initdb' 2> /dev/null | sort -V | tail -n 1)
  [ -n "$p" ] || p=$(command -v initdb || true)
  [ -n "$p" ] && dirname "$(readlink -f "$p")"
}

prepare() {
  where > /dev/null && return 0
  need initdb postgresql || true
  where > /dev/null || die "initdb is missing: install PostgreSQL (Debian: apt-get install postgresql)"
}

# A prefix that makes a command run as a user that Postgres accepts.
as=(env)
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)

# make DIR: a cluster in DIR/data.
make() {
  local given=$1/data.password
  mkdir -p "$1/data"
  (umask 077 && echo "$PGPASSWORD" > "$given")
  if [ "$(id -u)" = 0 ]; then chown postgres "$1/data" "$given" && chmod 711 "$1"; fi
  "${as[@]}" "$bin/initdb" -D "$1/data" -U firn -A scram-sha-256 --pwfile="$given" --no-instructions -E UTF8 --locale=C.UTF-8 > "$1/initdb.log" 2>&1 ||
    { cat "$1/initdb.log" >&2; rm -rf "$1/data" "$given"; die "initdb failed"; }
  rm -f "$given"
}

ask() { PGPASSWORD=$PGPASSWORD "$bin/psql" -h 127.0.0.1 -p "$port" -U firn -d postgres -qAt "$@"; }

case ${1:-} in
prepare) prepare ;;
start)
  [ $# -ge 3 ] || usage
  mkdir -p "$2"
  dir=$(cd "$2" && pwd) port=$3
  settings=()
  for setting in "${@:4}"; do settings+=(-c "$setting"); done
  prepare
  bin=$(where)
  if [ ! -e "$dir/credentials" ]; then (umask 077 && printf 'PGPASSWORD=%s\n' "$(random 30)" > "$dir/credentials"); fi
  . "$dir/credentials"
  [ -e "$dir/data/PG_VERSION" ] || make "$dir"
  spawn "$dir" "$port" "${as[@]}" "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=100 "${settings[@]}"
  for _ in $(seq 100); do # it listens before it takes connections
    ask -c 'SELECT 1' > /dev/null 2>&1 && break
    sleep 0.1
  done
  ask > /dev/null << 'SQL'
SELECT 'CREATE DATABASE firn' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'firn') \gexec
SQL
  echo "postgres on 127.0.0.1:$port, user and database firn, password in $dir/credentials" ;;
stop)
  [ $# = 2 ] || usage
  [ -d "$2" ] || exit 0
  dir=$(cd "$2" && pwd)
  if [ -e "$dir/pid" ] && ours "$(cat "$dir/pid")" "$dir"; then kill -INT "$(cat "$dir/pid")"; fi # it waits for no client then
  halt "$dir" ;;
*) usage ;;
esac
