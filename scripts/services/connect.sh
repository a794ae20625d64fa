#!/usr/bin/env bash
# Kafka Connect 4.1 with Debezium's connector for Postgres and Apicurio's converters, for tests: one standalone worker whose REST
# interface is on 127.0.0.1. It fetches them the first time (42 MB, Maven Central, versions in connect-pom.xml).
#   connect.sh start DIR PORT BROKERS   a worker whose offsets are in DIR; connectors are made over REST, and gone when it ends
#   connect.sh stop DIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
lib=$tools/connect-4.1.0-debezium-3.4.3

fetch() {
  mvn -q -B -f "$here/connect-pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$1"
}

start() {
  local dir port=$2
  need java openjdk-17-jre-headless
  [ -e "$lib" ] || need mvn maven
  once "$(basename "$lib")" fetch
  mkdir -p "$1"
  dir=$(cd "$1" && pwd)
  cat > "$dir/worker.properties" << END
bootstrap.servers=$3
listeners=http://127.0.0.1:$port
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
offset.storage.file.filename=$dir/offsets
offset.flush.interval.ms=1000
END
  spawn "$dir" "$port" java -Xmx512m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$lib/*" \
    org.apache.kafka.connect.cli.ConnectStandalone "$dir/worker.properties"
  for _ in $(seq 300); do # it listens before it answers
    ! (exec 3<> "/dev/tcp/127.0.0.1/$port" && printf 'GET /connectors HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3 | grep -q ' 200 ') 2> /dev/null || break
    sleep 0.2
  done
  echo "http://127.0.0.1:$port"
}

case "${1:-}" in
  start) [ $# = 4 ] || usage; start "$2" "$3" "$4" ;;
  stop) [ $# = 2 ] || usage; [ ! -d "$2" ] || halt "$(cd "$2" && pwd)" ;;
  *) usage ;;
esac
