"""Whether two ways to write a setting mean the same value, as PostgreSQL reads them."""

from __future__ import annotations

import re

__all__ = ["same"]

WORDS = {"on": "on", "true": "on", "yes": "on", "1": "on", "off": "off", "false": "off", "no": "off", "0": "off"}
MEMORY = {"B": 1.0, "kB": 1024.0, "MB": 1024.0**2, "GB": 1024.0**3, "TB": 1024.0**4}
TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6, "d": 8.64e7}


def same(wanted: str, setting: str, *, unit: str, kind: str) -> bool:
    """Whether a server that has `setting` was given `wanted`.

    Args:
        wanted: As written after ``-c``.
        setting: ``pg_settings.setting``, in units of `unit`.
        unit: ``8kB``, ``ms``; empty where the setting has none.
        kind: ``pg_settings.vartype``.
    """
    if kind in ("bool", "enum"):
        return _word(wanted) == _word(setting)
    if kind not in ("integer", "real"):
        return wanted == setting
    number = _number(wanted, unit)
    if number is None or number == -1:
        return True  # the server understood it, and -1 tells it to choose
    has = float(setting)
    return abs(number - has) <= (0.5 if kind == "integer" else 1e-6 * max(1.0, abs(has)))


def _word(text: str) -> str:
    lowered = text.lower()
    return WORDS.get(lowered, lowered)


def _number(text: str, unit: str) -> float | None:
    match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None:
        return None
    number, given = float(match[1]), match[2]
    if not given:
        return number
    base = re.fullmatch(r"([0-9]*)([A-Za-z]+)", unit)
    for scale in (MEMORY, TIME):
        if base and given in scale and base[2] in scale:
            return number * scale[given] / (scale[base[2]] * int(base[1] or 1))
    return None
