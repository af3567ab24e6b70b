"""Whatever stands in a configuration, a variable or an argument: it is in force, or one error says what is wrong."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

import elefast
from elefast.cli import main
from elefast.config import Loaded, load_settings, settings_for_run
from elefast.config.discovery import find
from elefast.config.keys import all_keys, all_tables, variable
from elefast.errors import ConfigurationError
from tests.properties.documents import SECRET, any_values, entries, names, texts, toml, urls_with_secret
from tests.properties.effort import examples
from tests.properties.rule import check_configuration


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with an empty configuration, whatever the examples before have left there."""
    return tmp_path


def load(place: Path, env: Mapping[str, str] | None = None, **arguments: Any) -> Loaded | None:
    """The configuration, or None where it was refused as the rule has it."""
    try:
        loaded = load_settings(place, env=env or {}, **arguments)
    except ConfigurationError as error:
        check_configuration(error)
        return None
    for text in (repr(loaded), repr(loaded.settings), str(loaded.settings)):
        assert SECRET not in text
    return loaded


def write(place: Path, overlay: bytes | None, pyproject: bytes | None) -> None:
    """Write both files, or take them away."""
    for name, content in (("elefast.toml", overlay), ("pyproject.toml", pyproject)):
        if content is None:
            (place / name).unlink(missing_ok=True)
        else:
            (place / name).write_bytes(content)


def see(place: Path, loaded: Loaded, env: Mapping[str, str], **arguments: Any) -> None:
    """See that what was accepted can be used: every text can go anywhere, and a stack can be made of it."""
    values = loaded.settings.model_dump()
    for text in _texts(values):
        assert "\0" not in text
        text.encode()
    try:
        stack = elefast.from_config(place, env={**env, "CI": "1"}, **arguments)
    except ConfigurationError as error:
        # Only what SQLAlchemy and the drivers have to say is not known before.
        check_configuration(error, table="engine.")
        return
    with stack:
        assert not stack.started
        assert _same(stack.settings.model_dump(), values)
        assert SECRET not in repr(stack)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for name, inner in value.items() for text in (str(name), *_texts(inner))]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _same(one: Any, other: Any) -> bool:
    """Equal, where a number that is none is equal to itself."""
    return repr(one) == repr(other)


@given(entries(), entries(), st.sampled_from(["overlay", "pyproject", "both"]))
@examples()
def test_any_document(place: Path, first: dict[str, Any], second: dict[str, Any], which: str) -> None:
    """Each key may have any value that TOML has, in either file and in any profile."""
    overlay = toml(first).encode() if which != "pyproject" else None
    pyproject = toml(second, ("tool", "elefast")).encode() if which != "overlay" else None
    write(place, overlay, pyproject)
    loaded = load(place)
    if loaded is not None:
        see(place, loaded, {})


@given(entries(), st.sampled_from(["elefast.toml", "pyproject.toml"]))
@examples()
def test_problems_are_where_they_are_said_to_be(place: Path, table: dict[str, Any], name: str) -> None:
    """The line that a problem names has the key, or the table, that it is about."""
    text = toml(table, () if name == "elefast.toml" else ("tool", "elefast"))
    write(place, *((text.encode(), None) if name == "elefast.toml" else (None, text.encode())))
    try:
        load_settings(place, env={})
    except ConfigurationError as error:
        for problem in error.problems:
            file, _, line = problem.origin.rpartition(":")
            assert file == name, problem
            last = problem.key.rpartition(".")[2].strip('"')
            # What is wrong between two keys may be said at either of them.
            if problem.code in ("wrong-value", "unknown-key") and last.isascii() and last.isidentifier():
                assert last in text.split("\n")[int(line) - 1], problem


_QUOTES = ["'" * 3, '"' * 3, "\r\n"]
_WORDS = "1e 0x nan 2020-01-01T \\uD800 \\U0011FFFF".split()
_PIECES = st.sampled_from([*"[]{}=.,#'\"\\\n\r\t\0\x01\x7f\x85 -+_\ufeffé", *_QUOTES, *_WORDS])


@st.composite
def _broken(draw: st.DrawFn, text: str) -> str:
    """`text` with some of it taken away, doubled, or something else put in."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 5)))
        text = text[:at] + draw(_PIECES | st.just(text[at:end] * 2) | st.just("")) + text[end:]
    return text


_ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1"]


@given(st.data())
@examples()
def test_broken_text(place: Path, data: st.DataObject) -> None:
    """A file that is no TOML, or no UTF-8, is named with the line at which it breaks."""
    name = data.draw(st.sampled_from(["elefast.toml", "pyproject.toml"]))
    text = data.draw(_broken(toml(data.draw(entries()), () if name == "elefast.toml" else ("tool", "elefast"))))
    if data.draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    content = text.encode(data.draw(st.sampled_from(_ENCODINGS)), errors="replace")
    # So that it is read in any case.
    write(place, *((content, None) if name == "elefast.toml" else (b"", content)))
    loaded = load(place)
    if loaded is not None:
        see(place, loaded, {})


@given(st.sampled_from(["[", "{a=", "a.", "[[a]]\n", "[a.a]\n", "'", "a=[[", "\\"]), st.integers(1, 20000))
@examples(4)
def test_depth(place: Path, piece: str, times: int) -> None:
    """However deep a document is nested, it is too deep at most."""
    times = min(times, 2000) if "." in piece else times  # the parser of Python takes the square of the time
    write(place, f"engine.connect_args.x = 1\n[engine.options]\n{piece * times}1".encode(), None)
    load(place)
    write(place, f"engine.connect_args.x = {piece * times}1{_closing(piece) * times}".encode(), None)
    load(place)
    write(place, None, f"[tool.elefast.engine.options]\nx = {'[' * times}{']' * times}".encode())
    find(place)
    load(place)


def _closing(piece: str) -> str:
    return {"[": "]", "{a=": "}", "a=[[": "]]"}.get(piece, "")


# -- variables ------------------------------------------------------------------------------------------------


_OTHERS = "ELEFAST_PROFILE ELEFAST_URL ELEFAST_HOST_PORT TESTING_DB_URL PGHOST PGHOSTADDR PGSERVICE PGPORT".split()
_TABLES = [table.name for table in all_tables() if table.name]
_known = st.sampled_from([*_OTHERS, *(variable(key.path) for key in all_keys()), *(variable((it,)) for it in _TABLES)])
_parts = st.text("ABab01_.-é", min_size=1, max_size=4) | st.sampled_from(["", "_", "__", "X" * 500, "\udcff", "\n"])
_open = st.sampled_from(["ELEFAST_ENGINE__OPTIONS", "ELEFAST_TUNING__SETTINGS"])
_variables = (
    _known
    | st.tuples(_known, _parts).map("".join)
    | st.tuples(_open, st.lists(_parts, min_size=1)).map(lambda it: "__".join([it[0], *it[1]]))
    | _parts.map(lambda part: f"ELEFAST_{part}")
)
# What is no UTF-8 in the environment comes to Python as lone surrogates.
_bytes = st.characters(categories=["Cs"], min_codepoint=0xDC80, max_codepoint=0xDCFF)
_surrogates = st.text(_bytes, min_size=1, max_size=3)
_JSON = ["[1, NaN]", '{"a": Infinity}', '{"a": 1, "a": 2}', "[" * 100000, '{"a":' * 100000, "9" * 5000]
_ODD_JSON = ['"\\ud800"', '["\\ud800"]', '{"\\ud800": 1}', '["a\\u0000"]']
_json = any_values.map(lambda value: json.dumps(value, default=str)) | st.sampled_from([*_JSON, *_ODD_JSON])
_settings = (texts | _json | urls_with_secret | st.lists(texts, max_size=3).map(",".join) | _surrogates).map(
    lambda text: text.replace("\0", "")  # which no variable can have
)


_named = _variables.map(lambda name: name.replace("\0", "").replace("=", ""))
_environments = st.dictionaries(_named, _settings, max_size=5)


@given(_environments)
@examples()
def test_any_variables(place: Path, env: dict[str, str]) -> None:
    """Each variable may have any value, also what is no text at all, and any name."""
    write(place, b"[profiles.ci]\n[profiles.local]\nkeep = 'always'\n", None)
    loaded = load(place, env)
    if loaded is not None:
        see(place, loaded, env)


# -- arguments ------------------------------------------------------------------------------------------------


def _around_itself(value: Any) -> Any:
    around: dict[str, Any] = {"a": value}
    around["itself"] = around["again"] = [around, around]
    return around


_objects = (
    any_values
    | st.sampled_from([None, b"a", Path("a"), Path("a\0b"), object(), {1, 2}, frozenset(), 1j, range(3), print])
    | st.sampled_from([make_url(f"postgresql://me:{SECRET}@localhost/x"), make_url(f"postgresql://me:{SECRET}@db/x")])
    | st.dictionaries(st.none() | st.integers() | st.binary(max_size=2) | names, st.none() | texts, max_size=3)
    | st.lists(st.binary(max_size=2) | st.none() | texts, max_size=3)
    | st.tuples(texts, st.integers())
    | texts.map(_around_itself)
    | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2)
)
_OWN = {"path", "profile", "env", "start"}
_ODD = "engine__options__a engine__options__a__b engine__options tuning__settings__ __ profiles é \0".split()
_argument_names = (
    st.sampled_from([*_ODD, "", "a" * 3000, *("__".join(key.path) for key in all_keys()), *_TABLES])
    | st.text(max_size=4)
).map(lambda name: "" if name in _OWN else name)


@given(st.dictionaries(_argument_names, _objects, max_size=4))
@examples()
def test_any_arguments(place: Path, arguments: dict[str, Any]) -> None:
    """Each keyword of `from_config()` may have any object for its value."""
    write(place, b"", None)
    loaded = load(place, **arguments)
    if loaded is not None:
        see(place, loaded, {}, **arguments)


@given(texts | _surrogates, texts | _surrogates)
@examples()
def test_any_path_and_profile(place: Path, path: str, profile: str) -> None:
    """A path that leads nowhere and a profile that nobody knows are errors with their names."""
    write(place, b"[profiles.ci]", None)
    for arguments in ({"path": path}, {"path": place / path}, {"path": place, "profile": profile}):
        try:
            load_settings(env={}, start=place, **arguments)
        except ConfigurationError as error:
            check_configuration(error)


# -- what is shown, and what is remembered ----------------------------------------------------------------------


@given(entries(), _environments, st.sampled_from(["toml", "json", "env"]), st.booleans())
@examples(2)
def test_whatever_is_wrong_can_be_shown(
    place: Path, capsys: pytest.CaptureFixture[str], table: dict[str, Any], env: dict[str, str], form: str, origin: bool
) -> None:
    """`elefast config` shows it in each of its forms, without passwords, ready to be read."""
    write(place, toml(table).encode(), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, value in env.items():
            patch.setenv(name, value)
        status = main(["config", "--format", form, *(["--origin"] if origin else [])])
    shown = capsys.readouterr()
    assert status in (0, 2), shown.err
    assert SECRET not in shown.out + shown.err
    if form == "toml":
        tomllib.loads(shown.out)
    elif form == "json":
        json.loads(shown.out)
    else:
        for word in shlex.split(shown.out, comments=True):
            assert word.partition("=")[0].isidentifier()
            assert "=" in word


@given(entries(), st.dictionaries(_known, _settings, max_size=2))
@examples(2)
def test_a_second_run_has_the_same_settings(place: Path, table: dict[str, Any], env: dict[str, str]) -> None:
    """What is remembered of a configuration is what it says."""
    write(place, toml(table).encode(), None)
    first = load(place, env)
    caches = place / "caches"
    for _ in range(2):
        try:
            again = settings_for_run(env=env, start=place, caches=str(caches))
        except ConfigurationError:
            assert first is None
            continue
        assert first is not None
        assert _same(again.settings.model_dump(), first.settings.model_dump())
        assert again.migrator == first.migrator
        assert {str(key): str(origin) for key, origin in again.provenance.items()} == {
            str(key): str(origin) for key, origin in first.provenance.items()
        }
    assert all(SECRET not in file.read_text() or file.stat().st_mode & 0o077 == 0 for file in caches.glob("*"))
