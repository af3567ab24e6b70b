"""`elefast explain`: what a code means, on the command line."""

from __future__ import annotations

import json

import pytest

from elefast.cli import main
from elefast.explanations import EXPLANATIONS, closest


def test_one_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Class, exit status, meaning, causes and remedies."""
    assert main(["explain", "port-taken"]) == 0
    assert capsys.readouterr().out == (
        "port-taken  ServerStartError, exit status 3\n"
        "\n"
        "The port is taken.\n"
        "The container cannot publish its port, because something else listens there.\n"
        "\n"
        "Usual causes\n"
        "  - A PostgreSQL of the machine on 5432.\n"
        "  - A container of another project with the same `docker.port`.\n"
        "\n"
        "What to do\n"
        "  - `docker.port = 0`, the default, takes any free port.\n"
        "  - `ss -ltnp` shows who listens on it.\n"
    )


def test_the_codes_of_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    """A note may have several, and can be copied as it is."""
    assert main(["explain", "unknown-key", "wrong-value"]) == 0
    out = capsys.readouterr().out
    assert out.index("unknown-key  ConfigurationError, exit status 2") < out.index("\nwrong-value  ConfigurationError")


def test_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a code there is a line for each."""
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [one.code for one in EXPLANATIONS]


def test_an_unknown_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is shown but what was probably meant."""
    assert main(["explain", "port-taken", "docker_unreachabel", "zzz"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        'there is no error with the code "docker_unreachabel", did you mean "docker-unreachable"?\n'
        'there is no error with the code "zzz"\n'
        "`elefast explain` lists all codes\n"
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
