#!/usr/bin/env bash
# Apache Spark 3.5 with Iceberg 1.10, for tests: a Python environment that has pyspark, and the jar of Iceberg in it.
#   spark.sh     fetch them unless they are there (PyPI: spark-requirements.txt, 320 MB; Maven Central: spark-pom.xml, and
#                spark-s3-pom.xml, 65 MB, for warehouses on S3), and print two lines: the path of the python, and those of
#                the jars, with commas between them
# Nothing is started: Spark runs in the process of the program that asks for a session.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
name=spark-3.5.7-iceberg-1.10.0
jar=iceberg-spark-runtime-3.5_2.12-1.10.0.jar
s3=iceberg-aws-bundle-1.10.0

jars() {
  need mvn maven
  mvn -q -B -f "$here/$1" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$2"
}

fetch() {
  jars spark-pom.xml "$1/jars"
  need python3 python3 python3-venv
  python3 -m venv "$1/venv"
  # Spark has no wheel; what it is built with comes with it.
  "$1/venv/bin/python" -m pip --disable-pip-version-check -q install -r "$here/spark-requirements.txt"
}

[ $# = 0 ] || usage
need java openjdk-17-jre-headless
once "$name" fetch
once "$s3" jars spark-s3-pom.xml
echo "$tools/$name/venv/bin/python"
echo "$tools/$name/jars/$jar,$tools/$s3/$s3.jar"
