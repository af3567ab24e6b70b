"""`elefast explain`: what a code means, on the command line."""

from __future__ import annotations

import json
import re

import pytest

from elefast.cli import COMMANDS, main
from elefast.config.model import Settings
from elefast.errors.explanations import EXPLANATIONS, TOPICS, closest


def test_one_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Class, exit status, meaning, causes and remedies."""
    assert main(["explain", "port-taken"]) == 0
    assert capsys.readouterr().out == (
        "port-taken  ServerStartError, exit status 3\n"
        "\n"
        "The port is taken.\n"
        "The container cannot publish its port, because another program listens on it.\n"
        "\n"
        "Usual causes\n"
        "  - A PostgreSQL on the machine that uses port 5432.\n"
        "  - A container of another project with the same `docker.port`.\n"
        "\n"
        "What to do\n"
        "  - `docker.port = 0`, the default, selects any free port.\n"
        "  - `ss -ltnp` shows the program that listens on it.\n"
    )


def test_the_codes_of_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    """A note may have several, and can be copied as it is."""
    assert main(["explain", "unknown-key", "wrong-value"]) == 0
    out = capsys.readouterr().out
    assert out.index("unknown-key  ConfigurationError, exit status 2") < out.index("\nwrong-value  ConfigurationError")


def test_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a word there is a line for each topic and each code."""
    assert main(["explain"]) == 0
    topics, _, codes = capsys.readouterr().out.partition("\n\n")
    assert [line.split()[0] for line in topics.splitlines()] == ["topics", *(one.name for one in TOPICS)]
    assert [line.split()[0] for line in codes.splitlines()[1:]] == [one.code for one in EXPLANATIONS]


@pytest.mark.parametrize("name", [one.name for one in TOPICS])
def test_a_topic(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """It fits on a screen, needs no file, and names only commands, keys and codes that exist."""
    assert main(["explain", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}\n\n")
    assert ".md" not in out
    commands = {word for one in COMMANDS for word in (one.NAME, *getattr(one, "ALIASES", ()))}
    assert set(re.findall(r"`elefast ([a-z]+)", out)) <= commands
    settings = Settings().model_dump()
    for table, key in re.findall(r"`(docker|local|template|pool|tuning|engine|metadata)\.([a-z_]+)\b(?!\()", out):
        assert key in settings[table], f"{table}.{key}"
    assert main(["explain", name, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["topic"] == name


def test_topics_and_codes_have_names_of_their_own() -> None:
    """One word means one thing."""
    names = [*(one.name for one in TOPICS), *(one.code for one in EXPLANATIONS)]
    assert len(names) == len(set(names))


def test_an_unknown_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is shown but what was probably meant."""
    assert main(["explain", "port-taken", "docker_unreachabel", "zzz"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        'there is no code and no topic "docker_unreachabel", did you mean "docker-unreachable"?\n'
        'there is no code and no topic "zzz"\n'
        "`elefast explain` lists all codes and topics\n"
    )


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Always a list, with the same keys for each."""
    assert main(["explain", "left-behind", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["code"], one["class"], one["exit_status"]) == ("left-behind", "LeakWarning", None)
    assert {"title", "meaning", "causes", "remedy"} <= one.keys()
    assert main(["explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(EXPLANATIONS)


def test_a_code_in_other_words() -> None:
    """Somebody types it from memory."""
    assert closest("PORT_TAKEN") == "port-taken"
    assert closest("") == ""
