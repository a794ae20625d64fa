# Shared by the scripts beside it; sourced, not run.
# Downloads and builds go to $FIRN_TOOLS, default .tools/ of the repository, which git ignores.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=${FIRN_TOOLS:-$root/.tools}

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

# packages DEBIAN_PACKAGE...: install them, if we may. Of two callers at once one waits: apt-get would fail for the other.
packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || return 1
  mkdir -p "$tools"
  (
    ! command -v flock > /dev/null || flock 8
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
  ) 8> "$tools/.lock-packages" >&2
}

# need COMMAND DEBIAN_PACKAGE...: install what is missing where that is possible, else say what is missing.
need() {
  local cmd=$1
  shift
  command -v "$cmd" > /dev/null && return 0
  echo "$(basename "$0"): $cmd is missing; installing $*" >&2
  packages "$@" || true
  hash -r
  command -v "$cmd" > /dev/null || die "$cmd is missing: install it (Debian: apt-get install $*)"
}

# once NAME COMMAND...: run COMMAND with a fresh directory as last argument, and keep that as $tools/NAME when it
# succeeded. Nothing half-done is ever found under the name, and of two callers at once one waits.
once() {
  local name=$1 tmp
  shift
  [ -e "$tools/$name" ] && return 0
  mkdir -p "$tools"
  exec 9> "$tools/.lock-$name"
  command -v flock > /dev/null && flock 9
  if [ ! -e "$tools/$name" ]; then
    tmp=$(mktemp -d "$tools/.new-XXXXXX")
    "$@" "$tmp" >&2 || { rm -rf "$tmp"; die "could not prepare $name"; }
    mv "$tmp" "$tools/$name"
  fi
  exec 9>&-
}

# random N: N letters and digits from the kernel's generator.
random() { LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c "$1" || true; }

listening() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# ours PID DIR: is it still the server of that directory, and not a later process with the same id?
ours() { kill -0 "$1" 2> /dev/null && tr '\0' ' ' < "/proc/$1/cmdline" 2> /dev/null | grep -qF -- "$2"; }

# patience is how many seconds a server may take until it listens.
patience=60

# await PID PORT LOG: until something listens, or the process is gone, or patience has ended.
await() {
  local i
  for ((i = 0; i < patience * 5; i++)); do
    listening "$2" && return 0
    kill -0 "$1" 2> /dev/null || { tail -n 20 "$3" >&2; die "the server ended at once; its log is $3"; }
    sleep 0.2
  done
  kill "$1" 2> /dev/null || true
  die "nothing listens on 127.0.0.1:$2 after $patience s; the log is $3"
}

# spawn DIR PORT COMMAND...: start a server in a session of its own, note its id in DIR/pid, wait until it listens.
# With FIRN_OWNER=PID in the environment the server is stopped when that process has gone, however it went.
spawn() {
  local dir=$1 port=$2 pid
  shift 2
  [ ! -e "$dir/pid" ] || ! ours "$(cat "$dir/pid")" "$dir" || die "already running from $dir"
  listening "$port" && die "127.0.0.1:$port is taken; choose another port"
  setsid "$@" < /dev/null > "$dir/log" 2>&1 &
  pid=$!
  echo "$pid" > "$dir/pid"
  if [ -n "${FIRN_OWNER:-}" ]; then
    (
      # A process that is about to become its program has no command line yet: only its end ends the watch.
      while kill -0 "$FIRN_OWNER" 2> /dev/null; do
        kill -0 "$pid" 2> /dev/null || exit 0
        sleep 1
      done
      ours "$pid" "$dir" && kill -9 "$pid"
    ) < /dev/null > /dev/null 2>&1 &
    disown
  fi
  await "$pid" "$port" "$dir/log"
}

# halt DIR: stop the server of a directory and wait for it; after 20 s without mercy.
halt() {
  local pid i
  [ -e "$1/pid" ] || return 0
  pid=$(cat "$1/pid")
  if ours "$pid" "$1"; then
    kill "$pid" 2> /dev/null || true
    for ((i = 0; i < 100; i++)); do
      ours "$pid" "$1" || break
      sleep 0.2
    done
    if ours "$pid" "$1"; then kill -9 "$pid" 2> /dev/null || true; fi
  fi
  rm -f "$1/pid"
}
