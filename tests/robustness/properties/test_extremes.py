"""Configurations of any size, profiles of any name, and processes that live in another encoding than UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elefast.config import load_settings
from elefast.errors import ConfigurationError
from tests.robustness.properties.documents import names, texts, toml
from tests.robustness.properties.effort import examples
from tests.robustness.properties.loading import IN_FORCE, REFUSED, outcome, write
from tests.robustness.properties.rule import check_configuration
from tests.robustness.properties.tally import Tally

# -- size ----------------------------------------------------------------------------------------------------

_ITEMS = {
    "keys": "k{}b = 1",
    "keys that look like others": "engin{}e = 1",
    "tables": "[t{}]",
    "settings of the server": "tuning.settings.x{} = {}",
    "profiles": "[profiles.p{}]\nkeep = 'always'",
    "profiles that are wrong": "[profiles.p{}]\nkeep = {}",
    "comments": "# {}",
}
_LISTS = {
    "an extension": "extensions = [{}]",
    "no variable": "export_env = [{}]",
    "a number": "seed = [{}]",
    "a long string": "template.watch = [{}]",
}


def _listed(what: str, size: int) -> str:
    match what:
        case "a number":
            items = ["1"] * size
        case "a long string":
            items = [f"'{'x' * size}'"]
        case "no variable":
            items = [f"'A{number} B'" for number in range(size)]
        case _:
            items = [f"'a{number}'" for number in range(size)]
    return _LISTS[what].format(", ".join(items))


@pytest.mark.fault(
    "a configuration that is huge", how="up to 5,000 keys, tables, profiles or items, or one long string"
)
@pytest.mark.comes_to(IN_FORCE, REFUSED)
@given(st.sampled_from([*_ITEMS, *_LISTS]), st.integers(1, 5000))
@examples(4)
def test_any_size(tally: Tally, tmp_path: Path, what: str, size: int) -> None:
    """However much there is of it, the error is one that can be read."""
    document = (
        _listed(what, size)
        if what in _LISTS
        else "\n".join(_ITEMS[what].replace("{}", str(number)) for number in range(size))
    )
    write(tmp_path, document.encode(), None)
    tally.add(outcome(tmp_path))
    tally.add(outcome(tmp_path, profile="nobody's"))


# -- profiles ------------------------------------------------------------------------------------------------

_CHOSEN = "it is in force, by its name"


@pytest.mark.fault("a profile of any name", how="Hypothesis names a profile in a file, and asks for it in two ways")
@pytest.mark.comes_to(_CHOSEN, REFUSED)
@given(names | texts, st.booleans(), st.sampled_from(["\n", "\r\n"]))
@examples()
def test_any_profile(tally: Tally, tmp_path: Path, name: str, by_argument: bool, end: str) -> None:
    """It is in force by the name that it was written with; no other name is taken for it."""
    document = toml({"profiles": {name: {"keep": "always"}}}).replace("\n", end)
    write(tmp_path, document.encode(), None)
    for asked, expected in ((name, "always" if name else ""), (f"{name}x", ""), (f" {name}", "")):
        arguments = {"profile": asked, "env": {}} if by_argument else {"env": {"ELEFAST_PROFILE": asked}}
        try:
            loaded = load_settings(tmp_path, **arguments)
        except ConfigurationError as error:
            check_configuration(error)
            assert not expected
            tally.add(REFUSED)
        else:
            assert loaded.settings.keep == expected
            tally.add(_CHOSEN)


# -- encodings ------------------------------------------------------------------------------------------------

_VARIABLES = [
    b"ELEFAST_KEEP",
    b"ELEFAST_PROFILE",
    b"ELEFAST_EXTENSIONS",
    b"ELEFAST_\xe9",
    b"ELEFAST_ENGINE__OPTIONS__\xff",
]
_BYTES = [
    b"always",
    "größe".encode(),
    "größe".encode("latin-1"),
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "🐘".encode(),
    b"a,\xe9",
]
_LOCALES = ["C", "POSIX", "C.UTF-8", "de_DE.ISO-8859-1", "nonsense"]
_SHOWN = "it is shown"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files and variables are no bytes")
@pytest.mark.fault(
    "a process in an odd encoding", how="`elefast config` with locales, variables and directories of any bytes"
)
@pytest.mark.comes_to(_SHOWN, REFUSED)
@given(
    st.dictionaries(st.sampled_from(_VARIABLES), st.sampled_from(_BYTES), max_size=2),
    st.sampled_from(_BYTES),
    st.sampled_from(_LOCALES),
    st.sampled_from(["", "ascii", "latin-1", "utf-8"]),
    st.booleans(),
    st.sampled_from(["toml", "json", "env"]),
)
@examples(8)
def test_any_encoding(
    tally: Tally,
    tmp_path: Path,
    env: dict[bytes, bytes],
    where: bytes,
    locale: str,
    console: str,
    is_utf8: bool,
    form: str,
) -> None:
    """Whatever the console can show, and whatever the bytes of a path and a variable are, there is no traceback."""
    place = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), where)))
    place.mkdir(exist_ok=True)
    write(place, "extensions = ['größe']\n[profiles.'größe']\n".encode(), None)
    done = subprocess.run(
        [sys.executable, "-m", "elefast.cli", "config", "--origin", "--format", form],
        cwd=place,
        env={
            **os.environb,
            b"LC_ALL": locale.encode(),
            b"PYTHONUTF8": b"1" if is_utf8 else b"0",
            b"PYTHONCOERCECLOCALE": b"0",
            b"PYTHONIOENCODING": console.encode(),
            b"PYTHONDONTWRITEBYTECODE": b"1",
            **env,
        },
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 2), done
    assert b"Traceback" not in done.stderr, done
    assert done.stdout or done.returncode, done
    assert b"elefast explain" in done.stderr or not done.returncode, done
    tally.add(REFUSED if done.returncode else _SHOWN)
