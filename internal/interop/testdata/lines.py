"""What the drivers share: acts asked for line by line, and a table's ledger as runs of offsets."""
import json
import os
import sys
import traceback

PARTITION, OFFSET = "_kafka_partition", "_kafka_offset"
LEDGER = (PARTITION, OFFSET, "_kafka_timestamp", "_ingested_at")

MAX_ERROR = 4000  # characters; Java's traces are longer


class Lost(Exception):
    """Firn committed first, as often as the act was tried."""


def serve(acts):
    """Answers each line {"act": name, "args": {…}} of standard input with one line {"answer": …}, {"lost": …} or {"error": …}."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print(json.dumps({"answer": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            out = {"answer": acts[ask["act"]](**ask["args"])}
        except Lost as e:
            out = {"lost": (str(e) or "no message")[:MAX_ERROR]}
        except Exception:
            out = {"error": traceback.format_exc()[:MAX_ERROR]}
        print(json.dumps(out), file=answers, flush=True)


def runs(pairs):
    """(partition, offset) of all rows, null in both for those that are not from Kafka, as
    {"rows", "own": without ledger, "doubled", "parts": {partition: [[first, end], …]}}."""
    parts, own, doubled = {}, 0, 0
    for p, o in sorted(p for p in pairs if p[0] is not None):
        of = parts.setdefault(p, [])
        if of and o < of[-1][1]:
            doubled += 1
        elif of and o == of[-1][1]:
            of[-1][1] = o + 1
        else:
            of.append([o, o + 1])
    own = sum(1 for p in pairs if p[0] is None)
    return {"rows": len(pairs), "own": own, "doubled": doubled, "parts": parts}
