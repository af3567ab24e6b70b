"""What seed functions may return."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from elefast.errors import MigrationError
from elefast.migrators.facts import checked_facts


def _returns(value: object) -> dict[str, Any]:
    return checked_facts(value, _returns, "states:fill", Path(__file__).parent)


def test_json_stays_as_it_is() -> None:
    """Nothing is no fact, and a tuple is a list."""
    facts = {"id": 1, "text": "é", "share": 0.5, "ok": True, "none": None, "list": [1, {"a": []}]}
    assert _returns(facts) == facts
    assert _returns({"pair": (1, 2)}) == {"pair": [1, 2]}
    assert _returns(None) == {}


def _endless() -> dict[str, Any]:
    facts: dict[str, Any] = {}
    facts["again"] = facts
    return facts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "expected a dict or None, got an object of type int"),
        ({"price": Decimal(1)}, r"facts\['price'\]: expected JSON, got an object of type decimal\.Decimal"),
        ({"a": [0, {1}]}, r"facts\['a'\]\[1\]: expected JSON, got an object of type set"),
        ({"a": {2: 1}}, r"facts\['a'\]: expected keys that are text, got an object of type int"),
        ({"a": float("nan")}, r"facts\['a'\]: expected a finite number, got nan"),
        ({"a": "\ud800"}, r"facts\['a'\]: expected text that is UTF-8"),
        (_endless(), "nested too deeply, or contains itself"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(value: object, expected: str) -> None:
    """With the function, its file and line."""
    with pytest.raises(MigrationError, match=expected) as caught:
        _returns(value)
    assert caught.value.code == "facts-not-json"
    assert "states:fill: " in str(caught.value)
    assert "it is defined at test_facts.py:" in str(caught.value)
