"""What a person sees of an error, compared with what is written in `messages/`, word for word.

A file there has a paragraph for each case: a line `=== name of the case`, then the text.
What differs from machine to machine stands in angle brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

# As in the conftest of the plugin: what a session in this process imports is forgotten after it.
import elefast.cli
import elefast.config.load
import elefast.config.messages  # noqa: F401
from tests.integration.pytest_plugin.conftest import Project

MESSAGES = Path(__file__).parent / "messages"
_HEAD = re.compile(r"^=== (.+)\n", re.MULTILINE)

Same = Callable[[str, str], None]


def messages(area: str) -> dict[str, str]:
    """The texts of one file, by the names of their cases."""
    text = (MESSAGES / f"{area}.txt").read_text(encoding="utf-8")
    _, *parts = _HEAD.split(text)
    return {name: body.strip("\n") for name, body in zip(parts[::2], parts[1::2], strict=True)}


def error_of(result: pytest.RunResult) -> str:
    """What pytest shows of the one test that has an error or a failure: all between its headline and the next."""
    text = result.stdout.str()
    found = re.search(r"^_+ (?:ERROR at setup of )?test_it _+\n(.*?)^(?:=|-|_)+ ", text, re.MULTILINE | re.DOTALL)
    assert found, text
    return found[1]


class Shown:
    """Texts with what differs from machine to machine taken out.

    Args:
        project: Its directory and server are named `<project>` and `<server>`.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self.more: dict[str, str] = {}
        """Further words to be replaced, and by what."""

    def __call__(self, text: str) -> str:
        url = self._project.url
        words = {
            str(self._project.path): "<project>",
            f"{url.host}:{url.port}": "<server>",
            f'"{url.host}", port {url.port}': "<server>",
            **self.more,
        }
        for word, name in words.items():
            text = text.replace(word, name)
        text = re.sub(r"\belefast_(?:shared_)?[a-z][0-9a-z]{6,}_\w+", "<database>", text)
        text = re.sub(r"https://sqlalche\.me/\S+?(?=\))", "<link>", text)
        text = re.sub(r"cannot be used here \(.*\)\.", "cannot be used here (<why>).", text)
        text = re.sub(r"/\S*/site-packages/(\S+?):\d+:", r"<site-packages>/\1:", text)
        text = re.sub(r"\b\d+\.\d+ s \(\d+ attempts?\)", "<a while>", text)
        return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server_url: str) -> Project:
    """A project on the server of the tests; its one test asks for a database."""
    project = Project(pytester, monkeypatch, server_url)
    project.tests("def test_it(elefast_db): pass")
    return project


@pytest.fixture
def shown(project: Project) -> Shown:
    """Takes out of a text what differs from machine to machine."""
    return Shown(project)


@pytest.fixture
def same(request: pytest.FixtureRequest, shown: Shown) -> Same:
    """Compares what is seen in a case with what is written for it in the file of the test's module."""
    area = request.module.__name__.rpartition("test_")[2]

    def check(name: str, text: str) -> None:
        assert shown(text) == messages(area)[name]

    return check
