#!/usr/bin/env bash
# Trino 476, for tests: one node on 127.0.0.1 with the catalog "lake", an Iceberg REST catalog.
#   trino.sh start DIR PORT URI   start it in DIR on PORT over the catalog at URI; fetches it the first time (820 MB, Maven Central)
#   trino.sh stop DIR             stop it
# For a warehouse on S3: TRINO_S3 is its endpoint, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY the keys; without them Trino
# takes those that the catalog gives for each table. Trino runs on JDK 24 or newer: TRINO_JAVA, else the newest under /usr/lib/jvm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
version=476
name=trino-$version
patience=240 # on a machine with better things to do

# Of the server only what the Iceberg connector needs. Its jars are links to those of other plugins, so all are unpacked.
fetch() {
  need mvn maven
  mvn -q -B -f "$here/trino-pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$1/packed" &&
    tar -xzf "$1/packed/trino-server-$version.tar.gz" -C "$1" --strip-components=1 "trino-server-$version/lib" "trino-server-$version/plugin" &&
    mv "$1/plugin/iceberg" "$1/iceberg" && rm -r "$1/packed" "$1/plugin" && mkdir "$1/plugin" && mv "$1/iceberg" "$1/plugin/iceberg"
}

major() { "$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p'; }

# The newest java of this machine; Trino needs 24.
find_java() {
  local best=0 java found v
  for java in ${TRINO_JAVA:-} /usr/lib/jvm/*/bin/java "$(command -v java || true)"; do
    [ -x "$java" ] || continue
    v=$(major "$java")
    if [ "${v:-0}" -gt "$best" ]; then best=$v found=$java; fi
    [ "$java" != "${TRINO_JAVA:-}" ] || break
  done
  [ "$best" -ge 24 ] || die "Trino $version needs a JDK 24 or newer, the newest here is $best: install one, or name its java by TRINO_JAVA"
  echo "$found"
}

configure() {
  local dir=$1 port=$2 uri=$3
  mkdir -p "$dir/etc/catalog" "$dir/data"
  cat > "$dir/etc/config.properties" << END
coordinator=true
node-scheduler.include-coordinator=true
http-server.http.port=$port
http-server.log.enabled=false
node.internal-address=127.0.0.1
discovery.uri=http://127.0.0.1:$port
query.max-memory=500MB
query.max-memory-per-node=400MB
catalog.management=static
END
  echo 'io.trino=WARN' > "$dir/etc/log.properties"
  cat > "$dir/etc/catalog/lake.properties" << END
connector.name=iceberg
iceberg.catalog.type=rest
iceberg.rest-catalog.uri=$uri
iceberg.rest-catalog.case-insensitive-name-matching=true
END
  if [ -n "${TRINO_S3:-}" ]; then
    cat >> "$dir/etc/catalog/lake.properties" << END
fs.native-s3.enabled=true
s3.endpoint=$TRINO_S3
s3.region=us-east-1
s3.path-style-access=true
END
    if [ -n "${AWS_ACCESS_KEY_ID:-}" ]; then
      printf 's3.aws-access-key=%s\ns3.aws-secret-key=%s\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >> "$dir/etc/catalog/lake.properties"
    else
      echo iceberg.rest-catalog.vended-credentials-enabled=true >> "$dir/etc/catalog/lake.properties"
    fi
    chmod 600 "$dir/etc/catalog/lake.properties"
  else
    # Trino's own local file system knows only local:/ locations; Hadoop's knows file:/.
    cat >> "$dir/etc/catalog/lake.properties" << END
fs.hadoop.enabled=true
END
  fi
}

start() {
  local dir port=$2 java
  java=$(find_java)
  once "$name" fetch
  mkdir -p "$1"
  dir=$(cd "$1" && pwd)
  configure "$dir" "$port" "$3"
  # config and plugin.dir are named in full, so that the process can be told by its directory.
  spawn "$dir" "$port" "$java" -Xmx1800m -XX:+UseSerialGC \
    -XX:ReservedCodeCacheSize=256M -Djdk.attach.allowAttachSelf=true -Dfile.encoding=UTF-8 \
    --add-modules=jdk.incubator.vector --sun-misc-unsafe-memory-access=allow --enable-native-access=ALL-UNNAMED \
    -Dnode.environment=test -Dnode.id=test -Dnode.data-dir="$dir/data" -Dconfig="$dir/etc/config.properties" \
    -Dcatalog.config-dir="$dir/etc/catalog" -Dlog.levels-file="$dir/etc/log.properties" -Dplugin.dir="$tools/$name/plugin" \
    -Djava.io.tmpdir="$dir/data" -cp "$tools/$name/lib/*" io.trino.server.TrinoServer
  echo "http://127.0.0.1:$port"
}

case "${1:-}" in
  start) [ $# = 4 ] || usage; start "$2" "$3" "$4" ;;
  stop) [ $# = 2 ] || usage; halt "$(cd "$2" && pwd)" ;;
  *) usage ;;
esac
