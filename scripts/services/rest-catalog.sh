#!/usr/bin/env bash
# Apache Iceberg's own reference REST catalog 1.10, on 127.0.0.1, for tests: a plain one, that knows nothing of Firn.
#   rest-catalog.sh prepare                    fetch the jars (those of rck.sh)
#   rest-catalog.sh start DIR PORT WAREHOUSE   state in DIR/catalog.db, tables below the local folder WAREHOUSE
#   rest-catalog.sh stop DIR
# Started again on the same directory it has its tables.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

case ${1:-} in
prepare) "$here/rck.sh" prepare ;;
start)
  [ $# = 4 ] || usage
  lib=$("$here/rck.sh" prepare)
  mkdir -p "$2" "$4"
  dir=$(cd "$2" && pwd) port=$3 warehouse=$(cd "$4" && pwd)
  # One connection: with two, SQLite's lock stays with one that gave up, and no commit succeeds any more.
  export CATALOG_CLIENTS=1 CATALOG_REST_PORT=$port CATALOG_WAREHOUSE=file://$warehouse CATALOG_URI=jdbc:sqlite:$dir/catalog.db \
    CATALOG_CATALOG__IMPL=org.apache.iceberg.jdbc.JdbcCatalog CATALOG_JDBC_SCHEMA__VERSION=V1
  spawn "$dir" "$port" java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dfirn.dir="$dir" -cp "$lib/*" org.apache.iceberg.rest.RESTCatalogServer
  echo "Iceberg REST catalog on 127.0.0.1:$port" ;;
stop)
  [ $# = 2 ] || usage
  [ ! -d "$2" ] || halt "$(cd "$2" && pwd)" ;;
*) usage ;;
esac
