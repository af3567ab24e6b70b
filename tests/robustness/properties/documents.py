"""Configurations, right ones and wrong ones: made from the keys that there are, and from everything else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from hypothesis import strategies as st

from elefast.config.keys import Key, all_keys, all_tables
from tests.robustness.properties.effort import LETTERS

__all__ = [
    "SECRET",
    "any_values",
    "entries",
    "good_values",
    "names",
    "profiles",
    "right_values",
    "texts",
    "toml",
    "urls_with_secret",
]

SECRET = "s3cr3t"
"""The password wherever one is written: nothing that people read may have it."""

_NASTY = [*"\0 \x01 \x7f \x85 \n \t ' \" \\ ~ %s %00 ~x \u202e \u2028 é 🐘".split(" "), "\x1b[31m", "\r\n", "${HOME}"]
_TEXTS = ["", " ", *"* ** [ [! ] { ../.. / . : a: a:b a.b:c.d".split()]
_SIZES = ["128MB", "128 mb", "1TB", f"{'9' * 30}MB", f"{'9' * 400}us", f"{'9' * 5000}d", "30", "1d", "25h", "٣MB", "²s"]
_HUGE = ["x" * 3000, "🐘" * 1000, "a." * 500, "//x:" * 1000 + "@", "'\"" * 500]

texts = (
    st.text(LETTERS, max_size=12)
    | st.sampled_from([*_NASTY, *_TEXTS, *_SIZES, *_HUGE])
    | st.text(LETTERS, max_size=4).map(lambda text: text * 50)
)
"""Texts without lone surrogates, which no file can have."""


class Raw(str):
    """A value as it is written, where Python would write another."""


_NUMBERS = ["9" * 4300, "9" * 4301, "-" + "1_0" * 3000, "0x" + "F" * 5000, "0o17", "0b1", "+1", "1e400"]
_numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**100, math.inf, -math.inf, math.nan])
    | st.sampled_from(_NUMBERS).map(Raw)
)
_moments = st.dates() | st.times() | st.datetimes() | st.sampled_from([date.min, datetime.max, time.max])
_scalars = st.none() | st.booleans() | _numbers | texts
_NAMES = ["a", "host", "dsn", "password", "a.b", "a-b", "", "é", "\n", "'", '"', "\0", "a__b", "x" * 2000]
names = st.sampled_from(_NAMES) | st.text(LETTERS, max_size=5)
"""Names of keys that nobody knows."""


def _nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    deep = st.tuples(leaves, st.integers(20, 60), st.booleans()).map(lambda it: _deep(*it))
    inner = st.recursive(
        leaves, lambda some: st.lists(some, max_size=4) | st.dictionaries(names, some, max_size=4), max_leaves=6
    )
    return inner | deep | st.lists(leaves, min_size=1, max_size=2).map(lambda some: some * 200)


def _deep(value: Any, depth: int, as_table: bool) -> Any:
    for _ in range(depth):
        value = {"a": value} if as_table else [value]
    return value


any_values = _nested(_scalars.filter(lambda value: value is not None) | _moments)
"""Anything that a TOML document can have."""

urls_with_secret = st.sampled_from(
    [
        f"postgresql://me:{SECRET}@localhost/x",
        f"postgresql://me:{SECRET}@db.example/x",
        f"postgresql+asyncpg://me:a%40{SECRET}@[::1]:5432/x?ssl=1",
        f"postgresql+nonsense://me:{SECRET}@127.0.0.1:99999999999999999999/x",
        f"postgresql+psycopg2://me:{SECRET}@/x?host=/tmp",
        f"postgres://me:{SECRET}@localhost",
        f"postgresql://me:{SECRET}@localhost:abc/x",
        f"postgresql://me:{SECRET}",
        f"postgresql://me:@{SECRET}@localhost",
        f"mysql://me:{SECRET}@localhost:1/x?a=//b:c@d",
        f"postgresql://localhost/x?user=me&password={SECRET}",
        f"postgresql:///x?sslpassword={SECRET}&host=db",
        f"host=localhost password={SECRET}",
        f"PGPASSWORD={SECRET}",
        f"//me:{SECRET}@localhost",
    ]
)
"""URLs and the like with a password, not all of them right."""


def good_values(key: Key) -> st.SearchStrategy[Any]:
    """Values that `key` accepts where nothing else is wrong."""
    ways: list[st.SearchStrategy[Any]] = [st.just(key.default), *map(st.just, key.examples)]
    if key.choices:
        ways.append(st.sampled_from(sorted(key.choices)))
    if bool in key.types:
        ways.append(st.booleans())
    return st.one_of(ways).filter(lambda value: not _has_none(value))


def right_values(key: Key) -> st.SearchStrategy[Any]:
    """Values that `key` accepts, or nearly."""
    ways: list[st.SearchStrategy[Any]] = [good_values(key)]
    if int in key.types:
        ways.append(st.integers(-1, 70000))
    if str in key.types and not key.choices:
        ways.append(st.sampled_from(["a", "a:b", "1MB", "1d", "512m", "16", ">=14"]) | texts)
    if list in key.types:
        ways.append(st.lists(st.sampled_from(["a", "a:b", "A=postgresql", "x.sql", "*.sql"]) | texts, max_size=3))
    if key.is_open:
        settings = st.sampled_from(["work_mem", "fsync", "service"])
        ways.append(st.dictionaries(names | settings, _scalars, max_size=3))
    if key.name == "engine.url":
        ways.append(urls_with_secret | st.just(f"me:{SECRET}@localhost"))
    if key.name.endswith("password"):
        ways.append(st.just(SECRET))
    if key.name.endswith("connect_args"):
        ways.append(st.dictionaries(st.sampled_from(["password", "sslpassword"]), st.just(SECRET), max_size=2))
    return st.one_of(ways).filter(lambda value: not _has_none(value))


def _has_none(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_none(inner) for inner in value.values())
    return value is None


@st.composite
def entries(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    """What stands in a file below its root: keys and tables; one half of the files has little that is wrong."""
    found: dict[str, Any] = {}
    is_good = draw(st.booleans())
    for key in draw(st.lists(st.sampled_from(all_keys()), max_size=5)):
        value = draw(good_values(key) if is_good else right_values(key) if draw(st.integers(0, 3)) else any_values)
        *table, name = key.path
        if not is_good and not draw(st.integers(0, 9)):
            others = [name.replace("_", "-"), name.upper(), name[:-1], f"{name}s", name.replace("_", "")]
            name = draw(st.sampled_from(others))
        place = found
        for part in table:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                place = found
        place[name] = value
    if not is_good and not draw(st.integers(0, 4)):
        found[draw(names | st.sampled_from([table.name for table in all_tables() if table.name]))] = draw(any_values)
    if not depth and not draw(st.integers(0, 3)):
        found["profiles"] = draw(profiles)
    return found


profiles: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(["ci", "local"]) | names, st.deferred(lambda: entries(1)) | any_values, max_size=2
)
"""What stands in `profiles`."""


def toml(table: Mapping[str, Any], root: tuple[str, ...] = ()) -> str:
    """`table` as a document, one key a line, its tables with headers of their own."""
    lines = [f"[{'.'.join(map(_name, root))}]"] if root else []
    lines += [f"{_name(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    inner = [toml(value, (*root, key)) for key, value in table.items() if isinstance(value, dict)]
    return "\n".join([*lines, *inner])


def _name(name: str) -> str:
    return name if name.isascii() and name.replace("_", "a").replace("-", "a").isalnum() else _value(name)


def _value(value: Any) -> str:
    match value:
        case Raw():
            return str(value)
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int():
            return str(value)
        case float():
            return repr(value)
        case date() | time():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return "{ " + ", ".join(f"{_name(name)} = {_value(inner)}" for name, inner in value.items()) + " }"
        case _:
            raise AssertionError(value)
