"""The key of a template."""

from __future__ import annotations

from elefast.runtime.hashing import digest
from elefast.templates.fingerprint import Input, Key


def test_the_digest_knows_where_a_part_ends() -> None:
    """The same bytes cut elsewhere are something else."""
    assert digest("ab", "c") != digest("a", "bc")


def test_the_order_of_inputs_does_not_matter() -> None:
    """Files may be listed in any order."""
    one, two = Input.of("a", "1"), Input.of("b", "2")
    assert Key.of([one, two]).digest == Key.of([two, one]).digest


def test_a_renamed_file_is_another_key() -> None:
    """The order of migrations can hang on their names."""
    assert Key.of([Input.of("a.sql", "x")]).digest != Key.of([Input.of("b.sql", "x")]).digest


def test_changes_are_told_in_words() -> None:
    """A person learns which input was changed, added or removed."""
    earlier = [Input.of("a", "1"), Input.of("b", "1"), Input.of("c", "1")]
    now = Key.of([Input.of("a", "1"), Input.of("b", "2"), Input.of("d", "1")])
    assert now.changes(earlier) == ["changed b", "added d", "removed c"]
