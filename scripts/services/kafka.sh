#!/usr/bin/env bash
# Apache Kafka 4.1, one node in KRaft mode, on 127.0.0.1, for tests.
#   kafka.sh prepare            fetch the jars (Maven Central, versions in kafka-pom.xml)
#   kafka.sh start DIR PORT     a broker whose files are in DIR; its controller listens on PORT+1
#   kafka.sh stop DIR
# DIR keeps the log: started again on the same directory and port, the broker has its topics.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
lib=$tools/kafka-4.1.0

fetch() {
  mvn -q -B -f "$here/kafka-pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$1"
}

prepare() {
  need java openjdk-17-jre-headless
  [ -e "$lib" ] || need mvn maven
  once kafka-4.1.0 fetch
}

case ${1:-} in
prepare) prepare ;;
start)
  [ $# = 3 ] || usage
  mkdir -p "$2"
  dir=$(cd "$2" && pwd) port=$3 controller=$(($3 + 1))
  prepare
  cat > "$dir/server.properties" << PROPS
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/logs
num.partitions=8
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.segment.bytes=67108864
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
PROPS
  if [ ! -e "$dir/logs/meta.properties" ]; then
    id=$(java -cp "$lib/*" kafka.tools.StorageTool random-uuid)
    java -cp "$lib/*" kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" > /dev/null
  fi
  spawn "$dir" "$port" java -Xms256m -Xmx1g -XX:+UseG1GC -cp "$lib/*" kafka.Kafka "$dir/server.properties"
  echo "kafka on 127.0.0.1:$port" ;;
stop)
  [ $# = 2 ] || usage
  [ ! -d "$2" ] || halt "$(cd "$2" && pwd)" ;;
*) usage ;;
esac
