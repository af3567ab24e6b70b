"""Whatever stands in a configuration, a variable or an argument: it is in force, or one error says what is wrong."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import make_url

from elefast.cli import main
from elefast.config import load_settings, settings_for_run
from elefast.config.discovery import find
from elefast.config.keys import all_keys, all_tables, variable
from elefast.config.limits import MAX_DEPTH
from elefast.errors import ConfigurationError
from tests.robustness.properties.documents import (
    SECRET,
    any_values,
    entries,
    good_values,
    names,
    texts,
    toml,
    urls_with_secret,
)
from tests.robustness.properties.effort import LETTERS, examples
from tests.robustness.properties.loading import IN_FORCE, REFUSED, load, outcome, same, write
from tests.robustness.properties.rule import check_configuration
from tests.robustness.properties.tally import Tally


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with an empty configuration, whatever the examples before have left there."""
    return tmp_path


@pytest.mark.fault(
    "a configuration with any values",
    how="Hypothesis writes both files, from known keys and from anything that TOML has",
)
@pytest.mark.comes_to(IN_FORCE, REFUSED)
@example({"extensions": ["a\0b"]}, {}, "overlay")
@given(entries(), entries(), st.sampled_from(["overlay", "pyproject", "both"]))
@examples()
def test_any_document(tally: Tally, place: Path, first: dict[str, Any], second: dict[str, Any], which: str) -> None:
    """Each key may have any value that TOML has, in either file and in any profile."""
    overlay = toml(first).encode() if which != "pyproject" else None
    pyproject = toml(second, ("tool", "elefast")).encode() if which != "overlay" else None
    write(place, overlay, pyproject)
    tally.add(outcome(place))


@pytest.mark.fault(
    "a configuration with mistakes", how="Hypothesis writes one file, and each problem is looked up at its line"
)
@pytest.mark.comes_to("nothing is wrong", "each line that is named has the key")
@given(entries(), st.sampled_from(["elefast.toml", "pyproject.toml"]))
@examples()
def test_problems_are_where_they_are_said_to_be(tally: Tally, place: Path, table: dict[str, Any], name: str) -> None:
    """The line that a problem names has the key, or the table, that it is about."""
    text = toml(table, () if name == "elefast.toml" else ("tool", "elefast"))
    write(place, *((text.encode(), None) if name == "elefast.toml" else (None, text.encode())))
    try:
        load_settings(place, env={})
        tally.add("nothing is wrong")
    except ConfigurationError as error:
        tally.add("each line that is named has the key")
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
    """`text` with some of it taken away, doubled, or something else put in; or as it is."""
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 5)))
        text = text[:at] + draw(_PIECES | st.just(text[at:end] * 2) | st.just("")) + text[end:]
    return text


_ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1"]


@pytest.mark.fault(
    "a configuration that is no TOML or no UTF-8",
    how="Hypothesis cuts, doubles and puts in characters, and encodes it in six ways",
)
@pytest.mark.comes_to(IN_FORCE, REFUSED)
@given(st.data())
@examples()
def test_broken_text(tally: Tally, place: Path, data: st.DataObject) -> None:
    """A file that is no TOML, or no UTF-8, is named with the line at which it breaks."""
    name = data.draw(st.sampled_from(["elefast.toml", "pyproject.toml"]))
    text = data.draw(_broken(toml(data.draw(entries()), () if name == "elefast.toml" else ("tool", "elefast"))))
    text += "\n# größe"  # so that each encoding is another one
    if data.draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    content = text.encode(data.draw(st.sampled_from(_ENCODINGS)), errors="replace")
    # So that it is read in any case.
    write(place, *((content, None) if name == "elefast.toml" else (b"", content)))
    came = outcome(place)
    try:
        tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        assert came == REFUSED
    tally.add(came)


@pytest.mark.fault(
    "a configuration that is nested too deep", how="brackets, tables and dotted names, up to 20,000 levels"
)
@pytest.mark.comes_to(IN_FORCE, REFUSED)
@given(
    st.sampled_from(["[", "{a=", "a.", "[[a]]\n", "[a.a]\n", "'", "a=[[", "\\"]),
    st.integers(1, 60) | st.integers(1, 20000),
)
@examples(3)
def test_depth(tally: Tally, place: Path, piece: str, times: int) -> None:
    """However deep a document is nested, it is too deep at most."""
    times = min(times, 2000) if "." in piece else times  # the parser of Python takes the square of the time
    write(place, f"[engine.options]\n{piece * times}1".encode(), None)
    tally.add(outcome(place))
    write(place, f"engine.options.execution_options.x = {piece * times}1{_closing(piece) * times}".encode(), None)
    tally.add(outcome(place))
    write(place, None, f"[tool.elefast.engine.options.execution_options]\nx = {'[' * times}{']' * times}".encode())
    find(place)
    came = outcome(place)
    assert came == REFUSED if times > MAX_DEPTH else came == IN_FORCE or times > MAX_DEPTH - 5
    tally.add(came)


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


@pytest.mark.fault(
    "variables with any names and values", how="Hypothesis makes an environment, also of bytes that are no UTF-8"
)
@pytest.mark.comes_to(IN_FORCE, REFUSED)
@given(_environments)
@examples()
def test_any_variables(tally: Tally, place: Path, env: dict[str, str]) -> None:
    """Each variable may have any value, also what is no text at all, and any name."""
    write(place, b"[profiles.ci]\n[profiles.local]\nkeep = 'always'\n", None)
    tally.add(outcome(place, env))


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
    | st.text(LETTERS, max_size=4)
).map(lambda name: "" if name in _OWN else name)


_good_arguments = st.sampled_from(all_keys()).flatmap(
    lambda key: good_values(key).map(lambda value: {"__".join(key.path): value})
)


@pytest.mark.fault("arguments of any types", how="Hypothesis calls `from_config()` with any objects")
@pytest.mark.comes_to(IN_FORCE, REFUSED)
@given(st.dictionaries(_argument_names, _objects, max_size=4) | _good_arguments)
@examples()
def test_any_arguments(tally: Tally, place: Path, arguments: dict[str, Any]) -> None:
    """Each keyword of `from_config()` may have any object for its value."""
    write(place, b"", None)
    tally.add(outcome(place, **arguments))


@pytest.mark.fault("a path or a profile that nobody knows", how="Hypothesis gives any texts, also halves of characters")
@pytest.mark.comes_to("it is found", REFUSED)
@given(texts | _surrogates, texts | _surrogates)
@examples()
def test_any_path_and_profile(tally: Tally, place: Path, path: str, profile: str) -> None:
    """A path that leads nowhere and a profile that nobody knows are errors with their names."""
    write(place, b"[profiles.ci]", None)
    for arguments in ({"path": path}, {"path": place / path}, {"path": place, "profile": profile}):
        try:
            loaded = load_settings(env={}, start=place, **arguments)
            assert loaded.profile in ("", "ci")
            tally.add("it is found")
        except ConfigurationError as error:
            check_configuration(error)
            tally.add(REFUSED)


# -- what is shown, and what is remembered ----------------------------------------------------------------------


@pytest.mark.fault(
    "`elefast config` of a configuration with mistakes",
    how="Hypothesis writes a file and an environment, and what is shown is parsed again",
)
@pytest.mark.comes_to("it is shown in the form that was asked for", REFUSED)
@given(entries(), _environments, st.sampled_from(["toml", "json", "env"]), st.booleans())
@examples(2)
def test_whatever_is_wrong_can_be_shown(
    tally: Tally,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    table: dict[str, Any],
    env: dict[str, str],
    form: str,
    origin: bool,
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
    tally.add("it is shown in the form that was asked for" if status == 0 else REFUSED)
    assert SECRET not in shown.out + shown.err
    if form == "toml":
        tomllib.loads(shown.out)
    elif form == "json":
        json.loads(shown.out)
    else:
        for word in shlex.split(shown.out, comments=True):
            assert word.partition("=")[0].isidentifier()
            assert "=" in word


@pytest.mark.fault(
    "a configuration that is remembered", how="Hypothesis writes a file and an environment, and three runs read them"
)
@pytest.mark.comes_to("each run has the same", REFUSED)
@given(entries(), st.dictionaries(_known, _settings, max_size=2))
@examples(2)
def test_a_second_run_has_the_same_settings(
    tally: Tally, place: Path, table: dict[str, Any], env: dict[str, str]
) -> None:
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
        assert same(again.settings.model_dump(), first.settings.model_dump())
        assert again.migrator == first.migrator
        assert {str(key): str(origin) for key, origin in again.provenance.items()} == {
            str(key): str(origin) for key, origin in first.provenance.items()
        }
    tally.add("each run has the same" if first else REFUSED)
    assert all(SECRET not in file.read_text() or file.stat().st_mode & 0o077 == 0 for file in caches.glob("*"))
