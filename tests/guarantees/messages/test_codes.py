"""Codes of errors: every raised error has a code, every code is explained, and every explanation is raised."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import elefast
from elefast import errors
from elefast.cli import COMMANDS
from elefast.config.keys import all_keys, all_tables
from elefast.errors import ConfigurationError, ElefastError, LeakWarning, Problem, ServerStartError, explain_hint
from elefast.errors.explanations import EXPLANATIONS, find, parse_explanations, parse_topics
from tools.error_reference import reference

SOURCE = Path(elefast.__file__).parent
CLASSES = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, ElefastError)}
# Classes whose objects become an error later, with the same code.
CARRIERS = {"Problem", "ProviderFailure", "DiedError"}
CARRIERS_OF_CONFIG = {"Finding", "Violation"}
CODES = {one.code for one in EXPLANATIONS}

ENTRY = """\
# Servers

## ServerStartError

### port-taken

**The port is taken.**
Another program listens on it.
The container cannot publish it.

Usual causes:

- A PostgreSQL of the machine.
- Another project.

What to do:

- Choose another port.
"""
TOPIC = """\
# Guides

## ci

**Tests in CI.**

- Name the server.
- Run the tests.
"""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """The place, the class and the call for each error that the package makes."""
    # This package defines the errors and makes a problem only from text that a caller gave it.
    own = SOURCE / "errors" / "__init__.py"
    for path in sorted(SOURCE.rglob("*.py")):
        if path == own:
            continue
        wanted = CLASSES | CARRIERS | (CARRIERS_OF_CONFIG if path.parent.name == "config" else set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if name in wanted:
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", name, node


def code_of(call: ast.Call) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == "code"), None)


def constants(tree: ast.AST | None) -> set[str]:
    """The strings that are written in an expression or a module."""
    nodes = ast.walk(tree) if tree is not None else ()
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def strings() -> set[str]:
    """Every string constant of the package."""
    modules = SOURCE.rglob("*.py")
    return set[str]().union(*(constants(ast.parse(path.read_text(encoding="utf-8"))) for path in modules))


def test_every_error_has_a_code() -> None:
    """An error of the configuration may leave it to its problems."""
    # Copies of a problem with all of its fields, the code among them, from another process.
    copied = {"Problem(*one)"}
    without = [
        f"{place} {name}"
        for place, name, call in calls()
        if code_of(call) is None and name != "ConfigurationError" and ast.unparse(call) not in copied
    ]
    assert not without


def test_every_code_is_explained_for_the_class_that_has_it() -> None:
    """Where the code is written beside the class, they belong together."""
    wrong: list[str] = []
    for place, name, call in calls():
        if name == "ProviderFailure" and isinstance(call.args[0], ast.Constant):
            name = str(call.args[0].value)  # of the class that it will be
        for code in constants(code_of(call)):
            one = find(code)
            if one is None or (name in CLASSES and one.raised_as.__name__ != name):
                wrong.append(f"{place} {name} {code}")
    assert not wrong


def test_every_explanation_is_raised() -> None:
    """No module raises a code that it does not mention."""
    assert CODES - strings() - {LeakWarning.code} == set()
    assert LeakWarning.code in CODES


def test_no_code_is_explained_twice() -> None:
    """A code is a name."""
    assert len(CODES) == len(EXPLANATIONS)


def test_every_file_of_explanations_is_read() -> None:
    """The headings of the third level are the codes."""
    texts = [path.read_text(encoding="utf-8") for path in (SOURCE / "errors" / "explanations").glob("*.md")]
    assert {code for text in texts for code in re.findall(r"^### (.+)$", text, re.MULTILINE)} == CODES


def test_an_entry_has_class_title_meaning_causes_and_remedies() -> None:
    """The lines of the meaning become one paragraph."""
    (one,) = parse_explanations(ENTRY, "servers.md")
    assert (one.code, one.raised_as, one.title) == ("port-taken", ServerStartError, "The port is taken")
    assert one.meaning == "Another program listens on it. The container cannot publish it."
    assert one.causes == ("A PostgreSQL of the machine.", "Another project.")
    assert one.remedy == ("Choose another port.",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("## ServerStartError\n\n", "", 'servers.md: "### port-taken" does not have the form'),
        ("ServerStartError", "StartError", 'elefast.errors has no class "StartError"'),
        ("ServerStartError", "Problem", 'elefast.errors has no class "Problem"'),
        ("### port-taken", "### Port taken", '"### Port taken" does not have the form'),
        ("taken.**", "taken**", "does not have the form"),
        ("Another program listens on it.\nThe container cannot publish it.\n", "", "does not have the form"),
        ("Usual causes:", "Causes:", "does not have the form"),
        ("- A PostgreSQL of the machine.\n- Another project.\n", "", "does not have the form"),
        ("- Another project.", "  Another project.", "does not have the form"),
        ("\nWhat to do:\n\n- Choose another port.\n", "", "does not have the form"),
        ("- Choose another port.\n", "- Choose another port.\n\nA word more.\n", "does not have the form"),
        ("- Choose another port.\n", "- Choose another port.\n\n#### More\n", '"#### More" does not have the form'),
    ],
)
def test_an_entry_in_another_form_is_an_error(old: str, new: str, message: str) -> None:
    """The error names the file and the entry; nothing of the text is lost in silence."""
    assert old in ENTRY
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_explanations(ENTRY.replace(old, new), "servers.md")


def test_a_topic_has_title_and_lines() -> None:
    """Its heading is its name."""
    (one,) = parse_topics(TOPIC, "topics.md")
    assert (one.name, one.title, one.lines) == ("ci", "Tests in CI", ("Name the server.", "Run the tests."))


@pytest.mark.parametrize(("old", "new"), [("## ci", "## CI"), (".**", "**"), ("- Run", "Run"), ("- Name", "\n- Name")])
def test_a_topic_in_another_form_is_an_error(old: str, new: str) -> None:
    """As for an explanation."""
    assert old in TOPIC
    with pytest.raises(ValueError, match=r"topics\.md: .+ does not have the form"):
        parse_topics(TOPIC.replace(old, new), "topics.md")


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_explanation_is_complete(code: str) -> None:
    """A title without a full stop, sentences with one, at least one cause and one remedy, pairs of backticks."""
    one = find(code)
    assert one is not None
    assert not one.title.endswith(".")
    assert one.meaning.endswith(".")
    assert one.causes
    assert one.remedy
    assert all(text.count("`") % 2 == 0 for text in (one.meaning, *one.causes, *one.remedy))
    assert code == code.lower().replace("_", "-").replace(" ", "-")


def code_in(code: str) -> list[str]:
    """The code between backticks in an explanation."""
    one = find(code)
    assert one is not None
    return [part for text in (one.meaning, *one.causes, *one.remedy) for part in text.split("`")[1::2]]


@pytest.mark.parametrize("code", sorted(CODES))
def test_keys_and_commands_that_it_names_exist(code: str) -> None:
    """An explanation names only keys of the configuration and commands that exist."""
    tables = {table.name for table in all_tables() if table.name}
    keys = {key.name for key in all_keys()}
    commands = {command.NAME for command in COMMANDS}
    for part in code_in(code):
        key = re.match(r"(\w+)\.\w+(?=$| = )", part)
        if key and key[1] in tables and part != "alembic.ini":
            assert key[0] in keys
        command = re.match(r"elefast ([a-z]+)", part)
        assert command is None or command[1] in commands


def test_the_reference_has_an_anchor_for_each() -> None:
    """A heading is an anchor, and each class has its exit status."""
    page = reference().splitlines()
    assert [line for line in page if line.startswith("### ") and line[4:] not in CODES] == []
    assert all(page.count(f"### {code}") == 1 for code in CODES)
    assert "| `RefusedError` | 4 |" in reference()


def test_the_note_names_the_code() -> None:
    """The message is as ever, and the note says where more is to be read."""
    error = ServerStartError("port 5432 is taken", code="port-taken")
    assert (str(error), error.code, error.codes) == ("port 5432 is taken", "port-taken", ("port-taken",))
    assert explain_hint(error) == "more: elefast explain port-taken"


def test_no_code_is_no_note() -> None:
    """An error that somebody else makes needs none."""
    error = ElefastError("mine")
    assert (error.code, error.codes, explain_hint(error)) == ("", (), "")


def test_problems_have_codes_of_their_own() -> None:
    """The note names each once; a code of the error itself is for those that have none."""
    problems = [Problem("", "a", "b", code="unknown-key"), Problem("", "c", "d"), Problem("", "e", "f")]
    error = ConfigurationError(problems, code="wrong-value")
    assert error.codes == ("unknown-key", "wrong-value")
    assert error.code == "unknown-key"
    assert explain_hint(error) == "more: elefast explain unknown-key wrong-value"
    assert ConfigurationError("just text", code="wrong-value").codes == ("wrong-value",)


@pytest.mark.parametrize(
    "error",
    [
        ServerStartError("it did not", code="port-taken"),
        ConfigurationError([Problem("a:1", "b", "c", code="unknown-key"), Problem("", "", "d")], "a hint"),
        LeakWarning("left open"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_copies_are_the_same(error: Exception) -> None:
    """Through pickle, as between processes, and by copy: message, codes and one note."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), twin.__dict__) == (str(error), error.__dict__)
        assert len(twin.__notes__) == 1


def test_raising_it_again_adds_no_note() -> None:
    """A stack raises its first error again for every test."""
    error = ServerStartError("it did not", code="port-taken")
    for _ in range(3):
        with pytest.raises(ServerStartError) as caught:
            raise error.with_traceback(None) from OSError("below")
    assert caught.value.__notes__ == ["more: elefast explain port-taken"]


def test_explanations_are_imported_only_to_be_shown() -> None:
    """An error costs what it did before."""
    program = (
        "import sys, elefast, elefast.cli\n"
        "try: elefast.from_config('/nowhere')\n"
        "except elefast.ElefastError as error: assert error.__notes__\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "elefast.errors" in loaded
    assert not [name for name in loaded if name.startswith("elefast.errors.explanations")]
