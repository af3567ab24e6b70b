"""The command line as far as it exists: `elefast config`, and how errors look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from elefast.cli import main
from elefast.config import Settings, load_settings


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of its own, with none of the variables of this process."""
    for name in os.environ:
        if name.startswith(("ELEFAST_", "TESTING_DB_URL", "PG")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _write(text: str) -> None:
    Path("elefast.toml").write_text(text, encoding="utf-8")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the distribution."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"elefast {version('elefast')}\n"


def test_the_whole_configuration_is_toml(capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown could be written to a file, but for passwords."""
    _write("migrator = 'none'\nengine.options.pool_timeout = 5\n")
    assert main(["config"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    assert shown["engine"]["options"] == {"pool_timeout": 5}
    assert set(shown) == set(Settings.model_fields)


def test_a_profile_with_odd_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line of what is shown, and what is shown is TOML."""
    _write("pool.size = 1\n")
    assert main(["config", "--origin", "--profile", "a\nb\x1b[1A\udcf9"]) == 2
    out = capsys.readouterr().out
    assert "# profile a\\nb\\u001b[1A\\udcf9\n" in out
    assert tomllib.loads(out)["pool"]["size"] == 1


def test_a_url_for_a_profile(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever gave a variable the value of another one finds no password in a log."""
    _write("pool.size = 1\n")
    assert main(["config", "--origin", "--profile", "postgresql://me:secret@localhost/x"]) == 2
    shown = capsys.readouterr()
    assert "# profile postgresql://me:***@localhost/x\n" in shown.out
    assert "secret" not in shown.out + shown.err


def test_origins(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line says where its value came from, and the head what was read."""
    _write("pool.size = 1\nprofiles.ci.keep = 'failed'\n")
    monkeypatch.setenv("ELEFAST_POOL__MAX", "7")
    assert main(["config", "--origin", "--profile", "ci"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"# read elefast.toml in {Path.cwd()}",
        "# profile ci",
        "# migrator none (auto: no table of a migrator is written, and Alembic is not configured)",
    ]
    assert 'keep = "failed"  # elefast.toml:2' in lines
    assert lines[lines.index("[pool]") :] == [
        "[pool]",
        "size = 1  # elefast.toml:1",
        "max = 7  # env ELEFAST_POOL__MAX",
        "reuse = true  # default",
    ]


ONE_KEY = [
    (["docker.port"], "5433\n"),
    (["docker.port", "--origin"], "5433  # elefast.toml:1\n"),
    (["pool"], "[pool]\nsize = 4\nmax = 32\nreuse = true\n"),
    (["engine.options"], "[engine]\noptions.a = 1\noptions.b = 2\n"),
    (["engine.options.b"], "2\n"),
    (["docker.password"], '"***"\n'),
    (["engine.url"], '"postgresql://me:***@localhost/x"\n'),
]


@pytest.mark.parametrize(("arguments", "shown"), ONE_KEY)
def test_one_key_or_table(capsys: pytest.CaptureFixture[str], arguments: list[str], shown: str) -> None:
    """A single value is shown alone, a table with its name."""
    _write(
        "docker = { port = 5433, password = 'secret' }\n"
        "engine = { url = 'postgresql://me:secret@localhost/x', options = { a = 1, b = 2 } }\n"
    )
    assert main(["config", *arguments]) == 0
    assert capsys.readouterr().out == shown


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """For other programs."""
    _write("docker.port = 5433\n")
    assert main(["config", "docker.port", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"docker": {"port": 5433}}
    assert main(["config", "docker.port", "--format", "json", "--origin"]) == 0
    assert json.loads(capsys.readouterr().out) == {"docker.port": {"value": 5433, "origin": "elefast.toml:1"}}


def test_a_wrong_configuration_is_shown_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """The values go to one stream, what is wrong with them to the other."""
    _write("docker.port = 'abc'\nkeep = 'failed'\n")
    assert main(["config", "docker.port", "--origin"]) == 2
    out, err = capsys.readouterr()
    assert out == '"abc"  # elefast.toml:1\n'
    assert err == (
        '1 problem in elefast\'s configuration\n  elefast.toml:1  docker.port: expected an integer, got "abc"\n'
        "more: elefast explain wrong-value\n"
    )


def test_a_value_in_one_place_and_a_table_in_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place that wins is shown whole, and nothing of the other."""
    _write("engine.options.x.y = 1\nengine.connect_args.x = 1\n")
    monkeypatch.setenv("ELEFAST_ENGINE__OPTIONS__X", "2")
    monkeypatch.setenv("ELEFAST_ENGINE__CONNECT_ARGS__X__Y", "2")
    assert main(["config", "--json"]) == 0
    engine = json.loads(capsys.readouterr().out)["engine"]
    assert (engine["options"], engine["connect_args"]) == ({"x": 2}, {"x": {"y": 2}})
    assert "y" not in load_settings().settings.engine.options


def test_what_would_move_the_cursor_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """In the names and values of what is shown."""
    _write('docker.user = "\\u009b1A"\nengine.options."\\u202e" = "\\u001b[1A"\n')
    for form in ("toml", "json"):
        assert main(["config", "--format", form]) == 0
        shown = capsys.readouterr().out
        assert not {"\x9b", "\x1b", "\u202e"} & set(shown)
    assert json.loads(shown)["engine"]["options"] == {"\u202e": "\x1b[1A"}


def test_no_name_is_a_command_for_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    """Names that no variable can have are in comments."""
    _write('engine.options."; date #" = 1\nengine.options.A = 1\nengine.options."a\\nb" = 1\nengine.options.ok = 1\n')
    assert main(["config", "--format", "env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["ELEFAST_ENGINE__OPTIONS__OK=1"]
    assert len(lines) == 4


def test_an_unknown_key(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped key is an error with a suggestion."""
    _write("")
    assert main(["config", "docker.prot"]) == 2
    assert capsys.readouterr().err == 'there is no key "docker.prot", did you mean "docker.port"?\n'


def test_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors are their message, without a traceback, and have the status of their class."""
    assert main(["config"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("1 problem in elefast's configuration\n  no configuration found, looked in ")
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--vers"], ["config", "--form", "json"], ["nothing"]])
def test_options_are_not_guessed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """An abbreviation that works today would change its meaning with the next option."""
    assert main(arguments) == 2
    assert "usage: elefast" in capsys.readouterr().err


def test_help_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types only the name sees what there is."""
    assert main([]) == 0
    assert "show the configuration" in capsys.readouterr().out


def test_help_is_cheap() -> None:
    """The command line imports what a command needs when it runs."""
    code = (
        "import sys; from elefast.cli import main; main(['config', '--help']);"
        "print([name for name in ('pydantic', 'sqlalchemy', 'psycopg') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="it has no head")
def test_a_reader_that_stops_reading() -> None:
    """`elefast config | head -1` is no error."""
    _write("")
    result = subprocess.run(
        f"{sys.executable} -m elefast.cli config | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout, result.stderr) == ('provider = "auto"\n', "")


def test_show_and_json_are_other_words(capsys: pytest.CaptureFixture[str]) -> None:
    """`config show KEY` as `config KEY`, `--json` as `--format json`; more than one key is an error."""
    _write("pool.size = 1\n")
    for words in (["pool.size"], ["show", "pool.size"]):
        assert main(["config", *words]) == 0
        assert capsys.readouterr().out == "1\n"
    assert main(["config", "show", "pool", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pool"]["size"] == 1
    assert main(["config", "pool.size", "pool.max"]) == 2
    assert "several-keys" in capsys.readouterr().err


WRITTEN = """
migrator = "sql"
keep = "failed"
export_env = ["DATABASE_URL", "APP=postgresql"]
sql.files = ["/a b/*.sql"]
engine.echo = "debug"
engine.connect_args = { options = "-c a='b c'", connect_timeout = 5 }
engine.options.pool_timeout = 5
docker.port = 5433
docker.reuse = false
docker.tmpfs = "512m"
template.cache = false
tuning.settings = { random_page_cost = 1.1, search_path = "it's" }
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no sh")
def test_variables_say_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    """What a shell makes of them, given to elefast in a project without that file, gives the same settings."""
    _write(WRITTEN)
    assert main(["config", "--format", "env"]) == 0
    lines = capsys.readouterr().out
    shell = subprocess.run(["sh", "-ac", f"{lines}\nenv -0"], capture_output=True, text=True, check=True, env={})
    env = dict(item.split("=", 1) for item in shell.stdout.split("\0") if item.startswith("ELEFAST_"))
    before = load_settings(env={}).settings
    _write("")
    assert load_settings(env=env).settings == before


def test_variables_have_no_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    """They are named in a comment; so is what no variable can say, as an empty one counts as unset."""
    _write("docker.password = 'geheim'\ndocker.shm_size = ''\nengine.url = 'postgresql://a:geheim@localhost/x'\n")
    assert main(["config", "--format", "env"]) == 0
    out = capsys.readouterr().out
    assert "geheim" not in out
    assert "# ELEFAST_DOCKER__PASSWORD has a password, which is not shown" in out
    assert "# ELEFAST_ENGINE__URL has a password, which is not shown" in out
    assert "# ELEFAST_DOCKER__SHM_SIZE is empty, which no variable can say" in out


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of directories are text")
def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    """It is shown as the bytes that it is, also where standard output takes nothing but UTF-8."""
    place = os.path.join(os.fsencode(tmp_path), b"gr\xf6\xdfe")
    os.mkdir(place)
    Path(os.fsdecode(place), "elefast.toml").touch()
    env = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "elefast.cli", "config", "--origin"]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert place in done.stdout
