#!/usr/bin/env python3
"""Reads `go test -json` from standard input, prints a line per package and the output of what failed, and writes
"PASSED FAILED" to the file argv[1]. A package that fails without a failing test (it does not build, panics, or runs
out of time) counts as one failure."""
import json
import sys

KEEP = 400  # lines of output kept for a test or a package
passed = failed = 0
output, failures = {}, {}


def say(lines):
    for line in lines[-KEEP:]:
        sys.stdout.write("    " + line)


for raw in sys.stdin:
    try:
        e = json.loads(raw)
    except ValueError:
        sys.stdout.write(raw)
        continue
    action, package, test = e.get("Action"), e.get("Package") or e.get("ImportPath", ""), e.get("Test")
    key = (package, test)
    if action in ("output", "build-output"):
        kept = output.setdefault(key, [])
        kept.append(e.get("Output", ""))
        if len(kept) > 2 * KEEP:
            del kept[:KEEP]
    elif action == "pass" and test:
        passed += 1
        output.pop(key, None)
    elif action == "fail" and test:
        failed += 1
        failures[package] = failures.get(package, 0) + 1
        print(f"FAIL {package} {test} ({e.get('Elapsed', 0):.1f}s)")
        say(output.pop(key, []))
    elif action == "build-fail":
        say(output.pop(key, []))
    elif action in ("pass", "fail", "skip") and not test:
        if action == "fail" and not failures.get(package):
            failed += 1
            say(output.get(key, []))
        if action != "skip":
            print(f"{'ok  ' if action == 'pass' else 'FAIL'} {package} ({e.get('Elapsed', 0):.1f}s)")
        output.pop(key, None)
    sys.stdout.flush()

with open(sys.argv[1], "w") as f:
    f.write(f"{passed} {failed}\n")
