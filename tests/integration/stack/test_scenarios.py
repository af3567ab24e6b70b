"""Layers and scenarios: which of them a run builds, what their databases contain, and what stays on the server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

import elefast
from elefast.errors import ConfigurationError, ElefastError, MigrationError
from elefast.postgres.names import Kind, Name

REVISIONS = int(os.environ.get("TEST_REVISIONS", "4"))
"""60 take as long as all other tests of this file together, and show nothing more."""

LAYERS = ["migrated", "seeded", "catalog", "shop", "vip"]

FILES = {
    "alembic.ini": "[alembic]\nscript_location = migrations\n",
    "migrations/env.py": """
        from alembic import context
        from sqlalchemy import create_engine

        with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
            context.configure(connection)
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
    """,
    "app/__init__.py": "",
    "app/db.py": """
        from sqlalchemy import create_engine
        from sqlalchemy.orm import sessionmaker

        engine = create_engine("postgresql+psycopg://developer@192.0.2.1:5432/production")
        Session = sessionmaker(engine)
    """,
    "app/services.py": """
        from sqlalchemy import text

        from app.db import Session

        def add_item(name):
            with Session() as session:
                insert = text("insert into t1 (name) values (:name) returning id")
                (number,) = session.execute(insert, {"name": name}).one()
                session.commit()
                return number
    """,
    "seed.sql": "insert into t1 (name) values ('seed');",
    "states/__init__.py": "",
    "states/catalog.py": """
        from sqlalchemy.orm import Session

        def fill(session: Session):
            from app.services import add_item

            return {"book": add_item("book"), "by": ["catalog"]}
    """,
    "shop.sql": "insert into t1 (name) values ('order');",
    "states/vip.py": """
        from sqlalchemy import text
        from sqlalchemy.ext.asyncio import AsyncConnection

        async def fill(connection: AsyncConnection):
            await connection.execute(text("insert into t1 (name) values ('vip')"))
            return {"by": ("vip", 1), "nothing": None}
    """,
}

CONFIGURATION = """
    [project]
    name = "{name}"
    [tool.elefast]
    migrator = "alembic"
    seed = ["seed.sql"]
    patch = ["app.db:engine"]
    [tool.elefast.scenarios.catalog]
    seed = ["states.catalog:fill"]
    [tool.elefast.scenarios.shop]
    base = "catalog"
    seed = ["shop.sql"]
    [tool.elefast.scenarios.vip]
    base = "shop"
    seed = ["states.vip:fill"]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with Alembic, a seed, and three scenarios on top of each other."""
    for name, content in FILES.items():
        _write(tmp_path / name, content)
    _write(tmp_path / "pyproject.toml", CONFIGURATION.format(name=f"scenarios-{tmp_path.name}"))
    for number in range(1, REVISIONS + 1):
        _revision(tmp_path, number)
    return tmp_path


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(content).lstrip("\n"))


def _revision(project: Path, number: int) -> None:
    down = f'"{number - 1:04}"' if number > 1 else "None"
    _write(
        project / f"migrations/versions/{number:04}_step.py",
        f"""
        from alembic import op

        revision, down_revision = "{number:04}", {down}

        def upgrade():
            op.execute("create table t{number} (id serial primary key, name text)")  # of {project.name}
        """,
    )


def _built(project: Path, env: dict[str, str], *scenarios: str, **overrides: Any) -> list[str]:
    """The layers that a run builds whose tests ask for `scenarios`."""
    with elefast.from_config(project, env=env, **overrides) as stack:
        for scenario in scenarios or ("", "vip"):
            stack.checkout(scenario=scenario).release()
        return [name for name, _, built in stack.report().layers if built]


def _templates(server_url: str, project: Path) -> list[str]:
    """The layers of the project's templates on the server, oldest first."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        found = connection.execute(
            "select datname, shobj_description(oid, 'pg_database')::json->>'layer' from pg_database "
            "where shobj_description(oid, 'pg_database') like %s order by oid",
            (f'%"scenarios-{project.name}"%',),
        ).fetchall()
    return [layer for name, layer in found if (parsed := Name.parse(name)) and parsed.kind is Kind.TEMPLATE]


def _names(database: Any) -> list[str]:
    with database.session() as session:
        return list(session.scalars(text("select name from t1 order by id")))


def test_each_layer_is_built_once_and_an_edit_rebuilds_it_and_those_above(
    shop: Path, env: dict[str, str], server_url: str
) -> None:
    """The first run builds five layers, the second none; no edit above the migrations replays them."""
    assert _built(shop, env) == LAYERS
    assert _built(shop, env) == []
    for file, layers in (
        ("states/vip.py", ["vip"]),
        ("shop.sql", ["shop", "vip"]),
        ("app/services.py", ["catalog", "shop", "vip"]),  # the application's own code, which a scenario has used
        ("seed.sql", ["seeded", "catalog", "shop", "vip"]),
        ("migrations/versions/0001_step.py", LAYERS),
    ):
        with (shop / file).open("a") as stream:
            stream.write("\n-- edited\n" if file.endswith(".sql") else "\n# edited\n")
        assert _built(shop, env) == layers, file
        assert _built(shop, env) == [], file
    _revision(shop, REVISIONS + 1)
    assert _built(shop, env) == LAYERS
    counts = {layer: _templates(server_url, shop).count(layer) for layer in LAYERS}
    assert counts == {"migrated": 3, "seeded": 4, "catalog": 4, "shop": 4, "vip": 4}  # with `template.keep` = 3


def test_the_reason_names_the_layer_below(shop: Path, env: dict[str, str]) -> None:
    """The summary has a line for each layer."""
    _built(shop, env)
    (shop / "shop.sql").write_text("insert into t1 (name) values ('another order');")
    with elefast.from_config(shop, env=env) as stack:
        stack.checkout(scenario="vip").release()
        lines = str(stack.report()).splitlines()
    found = [line for line in lines if re.match(r"(template)? +[a-z]+: ", line)]
    assert found[0].startswith("template  migrated: reused, built ")
    assert found[3] == "          shop: built: changed shop.sql"
    assert found[4].startswith("          vip: built: changed layer shop (")


def test_a_scenario_has_the_data_and_the_facts_of_its_chain(shop: Path, env: dict[str, str]) -> None:
    """The application's own service has written through its own engine; later facts win, and tests get copies."""
    with elefast.from_config(shop, env=env) as stack:
        checkout = stack.checkout(scenario="vip")
        assert _names(checkout.sync) == ["seed", "book", "order", "vip"]
        facts = checkout.sync.facts
        assert dict(facts) == {"book": 2, "by": ["vip", 1], "nothing": None}
        with pytest.raises(TypeError):
            facts["book"] = 3  # type: ignore[index]
        facts["by"].append("changed")
        checkout.release()
        another = stack.checkout(scenario="vip")
        assert another.async_.facts["by"] == ["vip", 1]
        another.release()
        plain = stack.checkout(scenario="")
        assert _names(plain.sync) == ["seed"]
        assert dict(plain.sync.facts) == {}
        plain.release()
        with stack.checkout_transaction(scenario="catalog").sync.session() as session:
            assert session.scalar(text("select count(*) from t1")) == 2


def test_the_setting_is_the_state_that_databases_start_from(shop: Path, env: dict[str, str]) -> None:
    """Also those of `create_database`."""
    with elefast.from_config(shop, env=env, scenario="catalog") as stack:
        checkout = stack.checkout()
        assert _names(checkout.sync) == ["seed", "book"]
        checkout.release()
        with stack.server.create_database() as database:
            assert _names(database) == ["seed", "book"]
            assert database.facts["book"] == 2


def test_a_project_without_seeds_has_one_layer(project: Path, env: dict[str, str]) -> None:
    """It pays for no further copy."""
    with elefast.from_config(project, env=env) as stack:
        stack.checkout().release()
        assert [name for name, _, _ in stack.report().layers] == ["migrated"]


def test_scenarios_need_no_migrator(tmp_path: Path, env: dict[str, str]) -> None:
    """Then the lowest layer is the first scenario, and databases without a scenario are empty."""
    _write(tmp_path / "one.sql", "create table t1 (id serial, name text); insert into t1 (name) values ('one');")
    scenarios: Any = {"one": {"seed": [str(tmp_path / "one.sql")]}, "same": {"base": "one"}}
    with elefast.from_config(env=env, migrator="none", scenarios=scenarios) as stack:
        checkout = stack.checkout(scenario="same")
        assert _names(checkout.sync) == ["one"]
        checkout.release()
        empty = stack.checkout()
        with empty.sync.session() as session:
            assert session.scalar(text("select to_regclass('t1')")) is None
        empty.release()


def test_properties_of_the_database_come_along(shop: Path, env: dict[str, str]) -> None:
    """PostgreSQL copies settings and grants to no layer by itself."""
    _write(
        shop / "seed.sql",
        "do $$ begin execute format('alter database %I set app.tenant = 7', current_database()); end $$;",
    )
    with elefast.from_config(shop, env=env) as stack:
        checkout = stack.checkout(scenario="shop")
        with checkout.sync.session() as session:
            assert session.scalar(text("show app.tenant")) == "7"
        checkout.release()


KINDS = {
    "app/settings.py": """
        from sqlalchemy import create_engine

        URL = "postgresql+psycopg://developer@192.0.2.1/production"
        made_here = create_engine(URL)
    """,
    "app/kinds.py": """
        import functools

        from sqlalchemy import create_engine
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.orm import scoped_session, sessionmaker

        from app.settings import URL

        made_elsewhere = create_engine(URL)
        async_engine = create_async_engine("postgresql+asyncpg://developer@192.0.2.2:6000/production")
        Session = scoped_session(sessionmaker(create_engine("postgresql+psycopg2://developer@192.0.2.3/production")))
        later = None

        @functools.lru_cache
        def get_engine():
            return create_engine("postgresql+psycopg://developer:secret@192.0.2.4/production?sslmode=require")
    """,
    "states/vip.py": """
        import os

        import psycopg
        from sqlalchemy import create_engine, text

        INSERT = "insert into t1 (name) values ('%s')"

        def _write(engine, name):
            with engine.begin() as connection:
                connection.execute(text(INSERT % name))

        async def fill():
            from app import kinds, settings

            _write(settings.made_here, "made here")
            _write(kinds.made_elsewhere, "made elsewhere")
            async with kinds.async_engine.begin() as connection:
                await connection.execute(text(INSERT % "async"))
            kinds.Session.execute(text(INSERT % "left open"))
            _write(kinds.get_engine(), "cached")
            assert kinds.get_engine() is kinds.get_engine()
            with psycopg.connect(settings.URL.replace("+psycopg", "")) as connection:
                connection.execute(INSERT % "url")
            _write(create_engine(os.environ["APP_URL"]), "variable")
    """,
}


def test_every_kind_of_patch_leads_to_the_new_state(shop: Path, env: dict[str, str]) -> None:
    """Engines, session makers, URLs and cached functions, and the variables of `export_env`."""
    for name, content in KINDS.items():
        _write(shop / name, content)
    patch = ["app.settings:URL", "app.kinds:async_engine", "app.kinds:Session", "app.kinds:get_engine"]
    more: Any = {"patch": [*patch, "app.kinds:later"], "export_env": ["APP_URL"], "scenarios": {"vip": {"base": ""}}}
    with elefast.from_config(shop, env=env, **more) as stack:
        checkout = stack.checkout(scenario="vip")
        found = set(_names(checkout.sync)) - {"seed"}
        checkout.release()
    assert found == {"made here", "made elsewhere", "async", "left open", "cached", "url", "variable"}


def test_a_build_that_is_killed_leaves_nothing(
    shop: Path, env: dict[str, str], server_url: str, names: Callable[[], set[str]]
) -> None:
    """The next run sweeps the draft, and builds the layer."""
    before = names()
    _write(
        shop / "states/vip.py",
        """
        import os, signal

        def fill(connection):
            if os.environ.get("KILLED"):
                os.kill(os.getppid(), signal.SIGKILL)
                signal.pause()
        """,
    )
    program = "import elefast; elefast.from_config().checkout(scenario='vip')"
    done = subprocess.run([sys.executable, "-c", program], cwd=shop, env={**env, "KILLED": "1"}, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert _templates(server_url, shop) == LAYERS[:-1]
    deadline = time.monotonic() + 60
    while len(names() - before) > len(LAYERS) - 1:  # the draft, until the server has noticed that its owner is dead
        assert _built(shop, env, "catalog") == []
        assert time.monotonic() < deadline
    assert _built(shop, env, "vip") == ["vip"]
    assert len(names() - before) == len(LAYERS)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        (
            "states/catalog.py",
            """
            import uuid

            def fill(connection):
                return {"user": {"id": uuid.uuid4()}, 3: float("inf"), "ok": 1}
            """,
            r"states\.catalog:fill \(scenarios\.catalog\.seed\): .* defined at states/catalog\.py:3\n"
            r"  facts\['user'\]\['id'\]: expected JSON, got an object of type uuid\.UUID\n"
            r"  facts: expected keys that are text, got an object of type int\n",
        ),
        (
            "states/catalog.py",
            "def fill(connection):\n    return [1]\n",
            r"expected a dict or None, got an object of type list",
        ),
        (
            "states/catalog.py",
            """
            from app.services import add_item

            def fill(engine):
                add_item("half")
                raise LookupError("no such item")
            """,
            r"states\.catalog:fill \(scenarios\.catalog\.seed\) failed:\n  LookupError: no such item\n"
            r"  where:\n    states/catalog\.py:5 in fill",
        ),
        ("shop.sql", "insert into t1 (name) values ('half');\ninsert into t9 values (1);\n", r"shop\.sql:2: "),
    ],
)
def test_a_scenario_that_fails(
    shop: Path,
    env: dict[str, str],
    names: Callable[[], set[str]],
    file: str,
    content: str,
    expected: str,
) -> None:
    """The error has its place, other states work, and nothing of the failed one stays on the server."""
    if "t9" in content and REVISIONS >= 9:
        content = content.replace("t9", "t99")
    _built(shop, env, "")
    before = names()
    _write(shop / file, content)
    with elefast.from_config(shop, env=env) as stack:
        for scenario in ("shop", "vip"):
            with pytest.raises(MigrationError, match=expected):
                stack.checkout(scenario=scenario)
        stack.checkout(scenario="").release()
    assert {name for name in names() - before if "_t" not in name} == set()
    assert len(names() - before) == (1 if file == "shop.sql" else 0)  # catalog, which is right


@pytest.mark.parametrize(
    ("scenarios", "more", "expected"),
    [
        (
            {"shop": {"base": "catlog"}, "catalog": {}},
            {},
            r'scenarios\.shop\.base: unknown scenario "catlog", .*"catalog"\?',
        ),
        ({"a": {"base": "b"}, "b": {"base": "c"}, "c": {"base": "b"}}, {}, r"scenarios\.b\.base: .*cycle: b -> c -> b"),
        ({"a": {"base": "a"}}, {}, r"scenarios\.a\.base: .*cycle: a -> a"),
        ({"a": {}}, {"scenario": "b"}, r'scenario: unknown scenario "b", the known ones are "a"'),
        ({"a b": {}}, {}, r"scenarios\.a b: expected a name"),
        ({"seeded": {}}, {}, r"scenarios\.seeded: .*name of a layer"),
        ({"a": {"seeds": []}}, {}, r'scenarios\.a\.seeds: unknown key, did you mean "seed"\?'),
        ({"a": {"seed": "x.sql"}}, {}, r'scenarios\.a\.seed: expected a list of strings, got "x\.sql"'),
        ({"a": {"seed": [3]}}, {}, r"scenarios\.a\.seed: expected a string in the list, got 3"),
        ({"a": 3}, {}, r"scenarios\.a: expected a table, got 3"),
        ({}, {"scenarios": 3}, r"scenarios: expected a table, got 3"),
    ],
)
def test_what_is_wrong_with_scenarios(
    project: Path, env: dict[str, str], scenarios: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    """One error each, before anything starts."""
    given: dict[str, Any] = {"scenarios": scenarios, **more}
    with pytest.raises(ConfigurationError, match=expected.replace(": ", r":? +", 1)):
        elefast.from_config(project, env=env, **given)


def test_a_scenario_that_does_not_exist(shop: Path, env: dict[str, str]) -> None:
    """The error suggests the name that was probably meant, and nothing was started."""
    with elefast.from_config(shop, env=env) as stack:
        with pytest.raises(ConfigurationError, match=r'unknown scenario "shp".* did you mean "shop"'):
            stack.checkout(scenario="shp")
        assert stack.started is None


def test_a_seed_that_is_missing_breaks_its_own_scenario_only(shop: Path, env: dict[str, str]) -> None:
    """With the place of the key."""
    (shop / "shop.sql").unlink()
    with elefast.from_config(shop, env=env) as stack:
        stack.checkout(scenario="catalog").release()
        with pytest.raises(ElefastError, match=r"pyproject\.toml:\d+  scenarios\.shop\.seed: "):
            stack.checkout(scenario="vip")


def test_two_runs_with_four_workers_each_build_each_layer_once(
    shop: Path, env: dict[str, str], server_url: str
) -> None:
    """They wait for each other, layer by layer."""
    for scenario in ("", "catalog", "shop", "vip"):
        rows = 1 + ["", "catalog", "shop", "vip"].index(scenario)
        _write(
            shop / f"test_{scenario or 'plain'}.py",
            f"""
            import pytest
            from sqlalchemy import text

            pytestmark = pytest.mark.elefast(scenario="{scenario}")

            @pytest.mark.parametrize("number", range(4))
            def test_it(db, number):
                with db.session() as session:
                    assert session.scalar(text("select count(*) from t1")) == {rows}
                    session.execute(text("insert into t1 (name) values ('mine')"))
                    session.commit()
            """,
        )
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-n", "4", "-p", "no:cacheprovider", "-p", "no:randomly"],
            cwd=shop,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    written = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], written
    assert sorted(_templates(server_url, shop)) == sorted(LAYERS)


def test_keep_never_drops_what_the_configuration_uses(shop: Path, env: dict[str, str], server_url: str) -> None:
    """Not even scenarios that no test of the run has asked for."""
    _built(shop, env, template={"keep": 0})
    (shop / "seed.sql").write_text("insert into t1 (name) values ('seed'); select 1;")
    _built(shop, env, "", template={"keep": 0})
    assert _templates(server_url, shop) == ["migrated", "seeded"]  # the others can never be found again
    _built(shop, env, template={"keep": 0})
    (shop / "states/vip.py").write_text((shop / "states/vip.py").read_text() + "# edited\n")
    _built(shop, env, "vip", template={"keep": 0})
    assert sorted(_templates(server_url, shop)) == sorted(LAYERS)


def test_the_commands_know_layers(shop: Path, env: dict[str, str], server_url: str) -> None:
    """`template build`, `explain` and `drop`, `ls` and `run`."""

    def said(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "elefast.cli", *words], cwd=shop, env=env, text=True, capture_output=True
        )
        return done.stdout + done.stderr

    assert "would be built: there was none yet" in said("template", "explain", "shop")
    assert "layer vip" not in said("template", "show", "shop")
    built = said("template", "build", "--all")
    assert all(f"{layer}: elefast_t" in built for layer in LAYERS)
    assert said("run", "--scenario", "shop", "--", "psql", "-Atc", "select count(*) from t1") == "3\n"
    assert "unknown scenario" in said("run", "--scenario", "shp", "--", "true")
    assert f"project scenarios-{shop.name}, layer catalog" in said("ls")
    dropped = said("template", "drop", "catalog")
    assert "3 databases dropped" in dropped or "4 databases dropped" in dropped  # a spare of `run` may be among them
    assert _templates(server_url, shop) == ["migrated", "seeded"]
    (shop / "shop.sql").write_text("select 1;")
    said("template", "build", "vip")
    assert "changed layer shop" not in said("template", "explain", "vip")
    assert "reused" in said("template", "explain", "vip")
