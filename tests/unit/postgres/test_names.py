"""Names that prove whose a database is."""

from __future__ import annotations

import random

import pytest

from elefast.postgres.names import MAX_BYTES, Kind, Name, new_owner, new_serial, serial_from_number

OWNER = "0123456789ab"


@pytest.mark.parametrize(
    "prefix",
    [
        "elefast",
        "",
        'tests/test_a.py::test_b[1-"x":y%s]',
        "ünï-" * 20,
        "a_d0123456789ab_1_00000000",
        "x\0y",
        "🐘" * 30,
        "no utf-8: \udcff",
    ],
)
def test_any_prefix_gives_a_name_that_fits_and_can_be_read_back(prefix: str) -> None:
    """Whatever stands before the mark, the name has at most 63 bytes and its mark is whole."""
    text = str(Name(prefix, Kind.CLONE, OWNER, "1"))
    assert len(text.encode()) <= MAX_BYTES
    parsed = Name.parse(text)
    assert parsed is not None
    assert (parsed.kind, parsed.owner, parsed.serial) == (Kind.CLONE, OWNER, "1")
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text", ["postgres", "elefast", "elefast_d0123456789ab_1", "elefast_d0123456789ab_1_00000000", ""]
)
def test_a_name_without_a_right_check_digest_is_not_ours(text: str) -> None:
    """What only looks like one of our names is not one."""
    assert Name.parse(text) is None


def test_changing_any_character_breaks_the_mark() -> None:
    """Nobody gets a name of ours by accident, nor by renaming a database a little."""
    text = str(Name("elefast", Kind.CLONE, OWNER, "1"))
    for place in range(len(text)):
        other = "x" if text[place] != "x" else "y"
        assert Name.parse(text[:place] + other + text[place + 1 :]) is None
    assert Name.parse(text + "\n") is None


def test_two_long_prefixes_do_not_collide() -> None:
    """The prefix is cut, never the mark, so parametrised tests with long node ids get names of their own."""
    first = str(Name("p" * 100, Kind.CLONE, OWNER, "1"))
    second = str(Name("p" * 100, Kind.CLONE, OWNER, "2"))
    assert first != second


def test_owners_do_not_depend_on_the_seed_of_random() -> None:
    """Plugins seed `random` before each test; two workers must not draw the same owner."""
    random.seed(1)
    first = new_owner(), new_serial()
    random.seed(1)
    assert (new_owner(), new_serial()) != first


def test_serials_are_counted() -> None:
    """A process counts its databases, in 32 digits."""
    assert [serial_from_number(number) for number in (0, 1, 31, 32, 33)] == ["0", "1", "v", "10", "11"]
