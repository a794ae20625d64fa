#!/usr/bin/env bash
# Apicurio Registry 3.0.9 on 127.0.0.1, for tests: Confluent's API under /apis/ccompat/v7. It fetches it the first time (104 MB,
# Maven Central).
#   registry.sh start DIR PORT    start it on PORT with its schemas in DIR, which it has again when it is started again; prints its URL
#   registry.sh stop DIR
#   registry.sh clients           Python with confluent-kafka's serializers (registry-requirements.txt); prints the path of it
# Of those on Maven Central 3.0.9 is the newest that runs on Java 17.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
version=3.0.9
name=apicurio-registry-$version
clients=confluent-kafka-2.16.1

fetch() {
  need curl curl
  local at=https://repo.maven.apache.org/maven2/io/apicurio/apicurio-registry-app/$version
  curl -sSf --retry 3 -o "$1/all.tar.gz" "$at/apicurio-registry-app-$version-all.tar.gz" && tar -xzf "$1/all.tar.gz" -C "$1" && rm "$1/all.tar.gz"
}

fetch_clients() {
  need python3 python3 python3-venv
  python3 -m venv "$1" && "$1/bin/python" -m pip --disable-pip-version-check -q install --only-binary :all: -r "$here/registry-requirements.txt"
}

start() {
  local dir port=$2
  need java openjdk-17-jre-headless
  once "$name" fetch
  mkdir -p "$1"
  dir=$(cd "$1" && pwd)
  spawn "$dir" "$port" java -Xmx512m -XX:+UseSerialGC -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
    -Dapicurio.storage.sql.kind=h2 -Dapicurio.datasource.url="jdbc:h2:file:$dir/registry" \
    -jar "$tools/$name/apicurio-registry-app-$version-runner.jar"
  for _ in $(seq 300); do # it listens before it answers
    ! (exec 3<> "/dev/tcp/127.0.0.1/$port" && printf 'GET /apis/ccompat/v7/subjects HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3 | grep -q ' 200 ') 2> /dev/null || break
    sleep 0.2
  done
  echo "http://127.0.0.1:$port/apis/ccompat/v7"
}

case "${1:-}" in
  start) [ $# = 3 ] || usage; start "$2" "$3" ;;
  stop) [ $# = 2 ] || usage; [ ! -d "$2" ] || halt "$(cd "$2" && pwd)" ;;
  clients) [ $# = 1 ] || usage; once "$clients" fetch_clients; echo "$tools/$clients/bin/python" ;;
  *) usage ;;
esac
