#!/usr/bin/env bash
# Apache Iceberg's REST compatibility kit, against a REST catalog that runs: table and view tests, 148 in all in the
# version 1.10.0. RCK_VERSION chooses another.
#   rck.sh prepare              fetch the jars (Maven Central, versions in rck-pom.xml), and print their folder
#   rck.sh run URI [REPORT]     run it; details of what did not pass go to REPORT, the totals to standard output
#   rck.sh firn FIRN [REPORT]   the same against the program FIRN, as "firn catalog" on SQLite, or on the Postgres that
#                               RCK_STORE names (postgres://user@host/database; PGPASSWORD counts); over local disk, or
#                               over the S3 at RCK_S3, whose keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
#                               (http://127.0.0.1:9000/bucket; without the tests that want a place on the local disk)
# It fails when a test fails, or when fewer pass than Iceberg's own reference server passes. The kit drops the namespaces
# "ns" and "newdb" with all that is in them: give it a catalog of its own. RCK_OPTS holds more -D options of the kit.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
version=${RCK_VERSION:-1.10.0}
kind=${RCK_S3:+-s3}
lib=$tools/iceberg-rck-$version$kind
least=139 # what the reference server passes of those of 1.10.0
# Tests that ask for a table or view at file:/tmp. Over S3 they are left out, and so fewer are to pass.
local_places='.*#(testCompleteCreateTable|testCompleteCreateTransaction(V2|MultipleSchemas)?|testCompleteCreateOrReplaceTransaction(Create|Replace)|testCompleteReplaceTransaction|testCreateTableWithDefaultColumnValue|testLoadTable|completeCreateView|createAndReplaceViewWithLocation|createViewWithCustomMetadataLocation|updateViewLocation)'
[ -z "$kind" ] || least=$((least - 13))

fetch() {
  mvn -q -B -f "$here/rck-pom.xml" -Diceberg="$version" ${RCK_S3:+-Ps3} org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$1"
}

prepare() {
  need java openjdk-17-jre-headless
  [ -e "$lib" ] || need mvn maven
  once "iceberg-rck-$version$kind" fetch
}

kit() {
  # shellcheck disable=SC2086 # RCK_OPTS is a list
  java -Xmx512m -Dfile.encoding=UTF-8 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -Drck.local=false -Duri="$1" \
    -Drck.requires-namespace-create=true -Drck.supports-serverside-retry=true \
    -Drck.supports-names-with-dot=true ${RCK_OPTS:-} \
    -cp "$lib/*" org.junit.platform.console.ConsoleLauncher execute --disable-banner --disable-ansi-colors --details=tree \
    ${RCK_S3:+--exclude-methodname="$local_places"} \
    --select-class org.apache.iceberg.rest.RESTCompatibilityKitCatalogTests \
    --select-class org.apache.iceberg.rest.RESTCompatibilityKitViewCatalogTests
}

# count WHAT REPORT: from the kit's totals, as in "[       139 tests successful      ]"
count() { sed -nE "s/^\[ *([0-9]+) tests $1 *\]$/\1/p" "$2"; }

run() {
  local report=$2 passed failed aborted
  kit "$1" > "$report" 2>&1 || true # its status says only that something failed
  passed=$(count successful "$report") failed=$(count failed "$report") aborted=$(count aborted "$report")
  [ -n "$passed" ] || { tail -n 40 "$report" >&2; die "the kit did not run"; }
  echo "REST compatibility kit $version: $passed passed, $aborted aborted, $failed failed"
  if [ "$failed" != 0 ] || [ "$passed" -lt "$least" ]; then
    grep ' ✘ ' "$report" >&2 || true
    die "0 may fail and at least $least must pass; all of it is in $report"
  fi
}

# The kit asks for tables at file:/tmp/ns and file:/tmp/newdb, whatever the catalog, so on local disk /tmp is the warehouse.
# What the kit leaves there is removed: those two, and the locations that the catalog chose, each named by a UUID.
firn() {
  local program=$1 report=$2 dir port at
  for at in /tmp/ns /tmp/newdb; do
    [ ! -e "$at" ] || die "$at exists, and the kit's tables go there: move it away, or remove it if an earlier run left it"
  done
  dir=$(mktemp -d /tmp/firn-rck-XXXXXX)
  # shellcheck disable=SC2064 # as it is now
  trap "tidy '$dir'" EXIT
  port=$(freeport)
  settings "$dir" "$port" > "$dir/firn.yaml"
  FIRN_OWNER=${FIRN_OWNER:-$$} spawn "$dir" "$port" env -u FIRN_TOOLS -u FIRN_OWNER "$program" catalog -c "$dir/firn.yaml" --data "$dir"
  run "http://127.0.0.1:$port" "$report"
}

# settings DIR PORT: the configuration of the catalog.
settings() {
  local store=${RCK_STORE:-sqlite://$1/catalog.db} s3
  echo 'http: {listen: "127.0.0.1:0"}'
  if [ -z "${RCK_S3:-}" ]; then
    echo "warehouse: file:///tmp"
    echo "catalog: {listen: \"127.0.0.1:$2\", store: \"$store\"}"
    return
  fi
  s3="endpoint: \"${RCK_S3%/*}\", region: us-east-1, access_key: env:AWS_ACCESS_KEY_ID, secret_key: env:AWS_SECRET_ACCESS_KEY"
  echo "warehouse: s3://${RCK_S3##*/}/$(basename "$1")"
  echo "storage: {$s3}"
  echo "catalog: {listen: \"127.0.0.1:$2\", store: \"$store\", s3: {$s3, path_style: true, vend_static_credentials: true}}"
}

tidy() {
  halt "$1"
  find /tmp -maxdepth 1 -type d -regextype posix-extended -regex '/tmp/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' \
    -newer "$1/firn.yaml" -exec rm -rf {} +
  rm -rf /tmp/ns /tmp/newdb "$1"
}

freeport() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

case ${1:-} in
prepare)
  prepare
  echo "$lib" ;;
run)
  [ $# = 2 ] || [ $# = 3 ] || usage
  prepare
  run "$2" "${3:-$(mktemp)}" ;;
firn)
  [ $# = 2 ] || [ $# = 3 ] || usage
  prepare
  firn "$2" "${3:-$(mktemp)}" ;;
*) usage ;;
esac
