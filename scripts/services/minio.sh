#!/usr/bin/env bash
# A MinIO server on 127.0.0.1, for tests, built from its Go module.
#   minio.sh prepare                     build it (about 4 minutes the first time, on 2 cores)
#   minio.sh start DIR PORT [BUCKET...]  a server whose files are in DIR, with these buckets
#   minio.sh stop DIR
# The keys are random and made once per DIR: DIR/credentials, to be sourced, has MINIO_ROOT_USER and MINIO_ROOT_PASSWORD.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
version=v0.0.0-20260212201848-7aac2a2c5b7c

build() { GOBIN=$1 GOFLAGS=-trimpath CGO_ENABLED=0 go install -ldflags='-s -w' "github.com/minio/minio@$version"; }

prepare() {
  need go golang
  once "minio-$version" build
}

case ${1:-} in
prepare) prepare ;;
start)
  [ $# -ge 3 ] || usage
  mkdir -p "$2/data"
  dir=$(cd "$2" && pwd) port=$3
  shift 3
  prepare
  if [ ! -e "$dir/credentials" ]; then
    (umask 077 && printf 'MINIO_ROOT_USER=%s\nMINIO_ROOT_PASSWORD=%s\n' "$(random 20)" "$(random 40)" > "$dir/credentials")
  fi
  set -a
  . "$dir/credentials"
  set +a
  export MINIO_UPDATE=off MINIO_CALLHOME_ENABLE=off MINIO_BROWSER=off
  for bucket in "$@"; do mkdir -p "$dir/data/$bucket"; done # on one drive, a bucket is a directory
  spawn "$dir" "$port" "$tools/minio-$version/minio" server "$dir/data" --address "127.0.0.1:$port"
  echo "minio on http://127.0.0.1:$port, keys in $dir/credentials" ;;
stop)
  [ $# = 2 ] || usage
  [ ! -d "$2" ] || halt "$(cd "$2" && pwd)" ;;
*) usage ;;
esac
