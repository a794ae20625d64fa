#!/usr/bin/env bash
# Apache Spark 3.5 with Iceberg 1.10, for tests: a Python environment that has pyspark, and the jar of Iceberg in it.
#   spark.sh     fetch them unless they are there (PyPI: spark-requirements.txt, 320 MB; Maven Central: spark-pom.xml),
#                and print two lines: the path of the python, the path of the jar
# Nothing is started: Spark runs in the process of the program that asks for a session.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
name=spark-3.5.7-iceberg-1.10.0
jar=iceberg-spark-runtime-3.5_2.12-1.10.0.jar

fetch() {
  need mvn maven
  mvn -q -B -f "$here/spark-pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$1/jars"
  need python3 python3 python3-venv
  python3 -m venv "$1/venv"
  # Spark has no wheel; what it is built with comes with it.
  "$1/venv/bin/python" -m pip --disable-pip-version-check -q install -r "$here/spark-requirements.txt"
}

[ $# = 0 ] || usage
need java openjdk-17-jre-headless
once "$name" fetch
echo "$tools/$name/venv/bin/python"
echo "$tools/$name/jars/$jar"
