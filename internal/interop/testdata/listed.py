"""What each engine is asked to do with a table of its own in Firn's catalog, act by act.

An act is a list of steps on one table that all acts share: SQL to be run, (SQL, rows that it must give), Refused(SQL, words that
the engine refuses it with), or a function of the engine. One with a Refused is not offered by the engine."""
import datetime
import re

OK, NOT_OFFERED = "ok", "not offered"
MAX_ERROR = 1500  # characters


class Refused:
    def __init__(self, sql, words):
        self.sql, self.words = sql, words


class Engine:
    """An engine that takes SQL. run(text) gives rows as lists; names fills the braces of a step."""

    def __init__(self, run, **names):
        self.run, self.names = run, names

    def sql(self, text):
        text = text.format(**self.names)
        try:
            return self.run(text)
        except Exception as e:
            raise RuntimeError(f"{text}: {type(e).__name__}: {e}") from e

    def value(self, text):
        return self.sql(text)[0][0]

    def step(self, step):
        """Does a step; True when the engine has to refuse it."""
        if callable(step):
            step(self)
        elif isinstance(step, Refused):
            try:
                self.sql(step.sql)
            except Exception as e:
                if not re.search(step.words, str(e), re.S):
                    raise
                return True
            raise AssertionError(f"{step.sql} was to be refused")
        elif isinstance(step, tuple):
            text, want = step
            got = [list(r) for r in self.sql(text)]
            assert got == want, f"{text} gives {got}, want {want}"
        else:
            self.sql(step)
        return False


def listed(engine, acts):
    """{act: "ok" | "not offered" | what went wrong}."""
    out = {}
    for name, steps in acts.items():
        try:
            refused = [engine.step(s) for s in steps]
            out[name] = NOT_OFFERED if any(refused) else OK
        except Exception as e:
            out[name] = f"{type(e).__name__}: {e}"[:MAX_ERROR]
    return out


def remember(**what):
    """A step that keeps values for the braces of later ones."""
    return lambda engine: engine.names.update({k: engine.value(v) for k, v in what.items()})


def some(*queries):
    """Steps of queries that must give a row at least."""
    def step(text):
        def act(engine):
            assert engine.sql(text), f"{text} gives nothing"
        return act
    return [step(q) for q in queries]


def reads(engine, queries):
    """{what: rows | "not offered"} of queries that read a table of Firn."""
    return {what: NOT_OFFERED if isinstance(q, Refused) and engine.step(q) else [list(r) for r in engine.sql(q)] for what, q in queries.items()}


def told(got, runs):
    """What reads gave, in the shape that the test compares: ids, names with ids, counts, and runs of offsets."""
    out = {}
    for what, rows in got.items():
        if rows == NOT_OFFERED:
            out[what] = rows
        elif what in ("snapshots", "history"):
            out[what] = [r[0] for r in rows]
        elif what == "refs":
            out[what] = dict(rows)
        elif what in ("files", "manifests", "partitions"):
            out[what] = [int(n) for n in rows[0]]
        else:
            out[what] = runs(rows)
    return out


def stamp(ms):
    """A time as SQL has it, in UTC."""
    t = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc)
    return f"{t:%Y-%m-%d %H:%M:%S}.{ms % 1000:03d}"
