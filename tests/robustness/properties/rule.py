"""The rule for whatever somebody gives to elefast: it works, or there is one clear error."""

from __future__ import annotations

import unicodedata

from elefast.errors import ConfigurationError, ElefastError
from elefast.errors.explanations import EXPLANATIONS
from tests.robustness.properties.documents import SECRET

__all__ = ["check", "check_configuration"]

_CODES = {explanation.code for explanation in EXPLANATIONS}
_LONGEST = 1500


def check(error: ElefastError, place: str = "") -> None:
    """See that `error` begins with its place, can be shown to anybody anywhere, and says where more is to be read."""
    text = str(error)
    assert text.startswith(place)
    assert error.codes, text
    assert _CODES.issuperset(error.codes), error.codes
    assert SECRET not in text
    assert SECRET not in repr(error)
    for line in text.splitlines():
        assert len(line) <= _LONGEST, f"a line of {len(line)} characters: {line[:300]}"
    odd = {one for one in text if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in "\n\t"}
    assert not odd, f"{odd} in {text!r}"


def check_configuration(error: ConfigurationError, table: str = "") -> None:
    """The same for an error that lists what is wrong: each problem has a place, is in `table`, and is one line."""
    check(error)
    assert error.problems
    assert error.hint in str(error)
    assert len(str(error).splitlines()) <= 60
    for number, problem in enumerate(error.problems):
        assert problem.origin or problem.code == "config-not-found", problem
        assert problem.code in _CODES, problem
        assert problem.key.startswith(table), problem
        assert len(str(problem).splitlines()) == 1, repr(str(problem))
        assert f"  {problem}" in str(error) or number >= 50
