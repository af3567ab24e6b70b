"""Whatever in elefast's source destroys or changes something is known here, with what keeps it to elefast's own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import elefast
from tests.guarantees.safety.test_statements import STATEMENTS

SOURCE = Path(elefast.__file__).parent

# How a statement begins in the source; in messages these words stand elsewhere.
_DESTROYS = re.compile(
    r"\s*(DROP|ALTER|TRUNCATE|DELETE|UPDATE|INSERT|COMMENT ON|GRANT|REVOKE|CREATE (DATABASE|ROLE)|REASSIGN|VACUUM|"
    r"ROLLBACK PREPARED|SELECT setval)\b|.*\b(pg_terminate_backend|pg_cancel_backend|pg_drop_replication_slot|"
    r"pg_reload_conf|pg_stat_reset\w*|lo_unlink)\(",
    re.DOTALL,
)

CHECKED = {
    "postgres/databases.comment": "comment",
    "postgres/databases.rename": "rename",
    "postgres/databases.seal": "seal",
    "postgres/databases.allow_connections": "open",
    "postgres/databases.terminate": "terminate",
    "postgres/databases.drop": "drop",
    "postgres/keepalives.set_for_database": "keepalives",
}
"""Functions that look for the mark before they do anything, and the case of `test_statements` that tries each."""

ELSEWHERE = {
    "postgres/databases.create": "a new one, whose name nobody has: PostgreSQL refuses another",
    "postgres/databases.clone": "the same",
    "postgres/drop_blockers.remove_blocker": "inside of a database that `clear_blockers` has checked (`test_a_method`)",
    "postgres/database_properties.read_properties": "only recorded; run on a new copy (`DatabaseManager._clone`)",
    "postgres/database_properties._setting": "the same",
    "postgres/database_properties._grant": "the same",
    "postgres/databases.rename_own_statements": "looks for the mark, and the statement for the owner",
    "postgres/reset.plan_reset": "inside of a database that was just renamed, and that holds what its test wrote",
    "postgres/reset._vacuum": "the same",
    "postgres/reset._reset_sequence": "the same",
    "databases/resetter.verified": "the statistics of a database that this run has made",
    "postgres/cluster_objects._drop_object": "looks for the mark right before (`test_cluster_objects.py`)",
    "postgres/roles.changes": "run right after the mark was read, under a lock (`RoleManager._change`, `test_servers`)",
    "postgres/roles.set_password": "looks for the mark right before (`integration/roles/test_servers.py`)",
    "postgres/roles.forget_projects": "the same",
    "postgres/roles.drop_role": "the same",
    "databases/roles._missing_rights": "a message that shows the statements",
    "migrators/grants._statements": "inside of a draft that this process is building",
    "templates/store.polish": "inside of a draft that this process has just built",
    "migrators/cluster_marks.finish": "what the statement before it has just created, by oid",
    "isolation/outer_transaction": "a message that names a function",
    "templates/builder._with_conflict": "a message that shows the statement",
}
"""Functions that do not look themselves, and why they need not."""

DELETES = {
    "shutil.rmtree": {
        "providers/files/directories._empty": "in a directory with elefast's marker (`test_files`)",
        "providers/local/orphan_files.clear": "files of databases that the server of such a directory does not know",
    },
    "os.kill": {
        "runtime/cache_dir._process_exists": "signal 0, which only asks",
        "providers/local/processes.send_signal": "what its callers have proven, see below",
    },
    "signal.pidfd_send_signal": {"providers/local/processes.send_signal": "the same"},
    "send_signal": {
        "providers/local/processes.stop_orphans": "servers that work in a data directory of elefast's, proven by inode",
        "providers/local/supervisor_client.dismiss": "a supervisor of this PID namespace, while it holds its lock",
    },
    "container.remove": {
        "providers/docker/lifecycle.remove": "containers with elefast's labels (`tests/integration/docker`)"
    },
}
"""Calls that end or delete something outside of PostgreSQL: where they are, and what of."""


def _functions() -> Iterator[tuple[str, ast.AST]]:
    """Every function of elefast's, as ``part/module.function``, and each module's own statements."""
    for path in sorted(SOURCE.rglob("*.py")):
        module = path.relative_to(SOURCE).with_suffix("").as_posix()
        yield from _within(ast.parse(path.read_text()), module)


def _within(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = name if isinstance(child, ast.ClassDef) else f"{name}.{child.name}"
            yield from _within(child, inner)
        else:
            yield name, child
            yield from _within(child, name)


def _statements() -> set[str]:
    return {
        name
        for name, node in _functions()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _DESTROYS.match(node.value)
        and not name.startswith("errors/explanations/")
    }


def test_each_destructive_statement_is_known() -> None:
    """Who writes another one says here what keeps it to elefast's own, and adds a test of that."""
    assert _statements() == CHECKED.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("function", CHECKED)
def test_it_looks_before_it_acts(function: str) -> None:
    """At that moment, in that function, and for each of its statements."""
    assert CHECKED[function] in STATEMENTS
    module, _, name = function.rpartition(".")
    tree = ast.parse((SOURCE / f"{module}.py").read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    calls = [node for node in ast.walk(found) if isinstance(node, ast.Call)]
    looks = [
        call.lineno for call in calls if ast.unparse(call.func) in ("check_ownership", "databases.check_ownership")
    ]
    acts = [call.lineno for call in calls if ast.unparse(call.func) in ("execute", "rows")]
    assert looks
    assert acts
    assert min(looks) < min(acts)


@pytest.mark.parametrize("call", DELETES)
def test_each_call_that_ends_or_deletes_something_is_known(call: str) -> None:
    """The same, for directories, processes and containers."""
    found = {name for name, node in _functions() if isinstance(node, ast.Call) and ast.unparse(node.func) == call}
    assert found == DELETES[call].keys()
