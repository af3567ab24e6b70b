"""Objects of elefast: neither `repr` nor `str` of any of them has a password, nor does any error."""

from __future__ import annotations

import gc
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url

import elefast
from elefast.errors import ElefastError
from elefast.providers.docker.container import ContainerSpec
from elefast.providers.docker.image import Layout
from tests.guarantees.passwords.search import Secret
from tests.guarantees.passwords.world import World
from tests.robustness.faults.server import Server


def _shown(one: object) -> Iterator[str]:
    for show in (repr, str):
        try:
            yield show(one)
        except Exception:  # half made, or of a test that is over
            continue


def _of_elefast() -> Iterator[object]:
    """Every object there is of a class of elefast's."""
    gc.collect()
    for one in gc.get_objects():
        if str(type(one).__module__).partition(".")[0] == "elefast" or isinstance(one, ElefastError):
            yield one


def _giving_away(secret: Secret) -> set[str]:
    return {type(one).__qualname__ for one in _of_elefast() if any(secret.is_in(text) for text in _shown(one))}


def _told(error: BaseException) -> str:
    """All of an error: its notes, its causes, and what a traceback of it shows."""
    seen: list[BaseException] = []
    texts: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        texts += [*_shown(one), *getattr(one, "__notes__", ()), "".join(traceback.format_exception(one))]
        # Of a driver's own error, psycopg has the whole connection in its attributes, and shows it to nobody.
        texts += [repr(one.args), repr(vars(one)) if isinstance(one, ElefastError) else ""]
        todo += [one.__cause__, one.__context__, getattr(one, "orig", None)]
    return "\n".join(texts)


@contextmanager
def _opened(world: World, url: str, **more: Any) -> Iterator[elefast.Stack]:
    env: Mapping[str, str] = world.environment(ELEFAST_ENGINE__URL=url)
    with elefast.from_config(world.path, env=env, **more) as stack:
        yield stack


URLS: dict[str, Callable[[World], str]] = {
    "password": lambda world: world.url(),
    "asyncpg": lambda world: world.url(driver="postgresql+asyncpg"),
    "options-of-driver": lambda world: URLS["options"](world).replace("://", "+psycopg://"),
    "options": lambda world: (
        f"{world.url(password=False)}?password={world.url().partition('app:')[2].partition('@')[0]}"
    ),
}


@pytest.mark.fault("a password in the repr of an object", how="repr and str of every object of elefast's there is")
@pytest.mark.parametrize("kind", URLS)
def test_objects(world: World, secret: Secret, kind: str) -> None:
    """With a stack in use, sync and async, and databases ready and lent; the search finds one that gives it away."""
    url = URLS[kind](world)
    with _opened(world, url, keep="always") as stack:
        lent = stack.checkout("a test")
        second = stack.checkout("another")
        with lent.sync.engine.connect(), lent.sync.session() as session:
            session.connection()
            views = [lent.sync, second.async_, lent.sync.server, stack.async_server, stack.report(), stack.migrator]
            shown = [repr(stack.settings), str(stack.provenance), repr(stack.url), repr(make_url(stack.url))]
            shown += [text for view in views for text in _shown(view)]
            shown += [repr(value) for view in views for value in getattr(view, "__dict__", {}).values()]
            assert secret.is_in(lent.dsn)
            assert len(list(_of_elefast())) > 50
            assert _giving_away(secret) == set()
            assert not secret.is_in("\n".join(shown))
        lent.release(keep="always", wait=True)
        second.release(wait=True)
        (kept,) = stack.report().kept
        assert secret.is_in(kept.dsn)
        assert not secret.is_in(repr(kept) + kept.psql)

        class CarelessError(ElefastError):
            """For the search to find."""

        careless = CarelessError(secret.text)
        assert _giving_away(secret) == {CarelessError.__qualname__}
        del careless
    world.clear()


@pytest.mark.fault("a password in an error", how="its chain, notes, arguments and attributes")
@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize("wrong", ["password", "role", "port", "option"])
def test_errors(world: World, secret: Secret, kind: str, wrong: str) -> None:
    """Of a connection that was refused for whatever reason."""
    url = make_url(URLS[kind](world))
    parts = {
        "password": url.set(username="postgres"),
        "port": url.set(port=1),
        "role": url.set(username="nobody_of_this_name"),
        "option": url.update_query_dict({"sslmode": "verify-full", "sslrootcert": "/nowhere"}),
    }
    # Not over a stack, which has half a minute's patience.
    server = elefast.DatabaseServer(parts[wrong].set(drivername="postgresql+psycopg"))
    with pytest.raises(ElefastError) as caught:
        server.ensure_is_ready(0.2, 0.1)
    assert not secret.is_in(_told(caught.value))
    assert not secret.is_in(pickle.dumps(caught.value))
    assert secret.is_in(_told(ElefastError(secret.text)))


def test_what_decides_a_container(secret: Secret) -> None:
    """Its password is in what makes it, and not in its `repr`, name and labels."""
    layout = Layout(
        identity="sha256:1", reference="postgres:18", mount="/var/lib/postgresql", command=(), major=18, initdb=""
    )
    wanted = ContainerSpec(
        owner="me", project="/project", engine="unix:///nowhere", layout=layout, name="", bind="127.0.0.1", port=0,
        user="postgres", password=secret.text, scram_iterations=1, reuse=True, tmpfs=True, shm_size="", platform="",
        settings={},
    )  # fmt: skip
    assert wanted.password == secret.text
    assert not secret.is_in(repr(wanted) + wanted.container_name + repr(wanted.labels) + repr(wanted.arguments()))


def test_a_local_server(world: World, elefast_root: object, talkative: Server) -> None:
    """The password of a server that elefast starts is as well kept as one that it is given."""
    with _opened(world, "", provider="local", local={"reuse": False}) as stack:
        lent = stack.checkout("a test")
        own = Secret(str(stack.url.password))
        with lent.sync.engine.connect():
            assert own.is_in(lent.dsn)
            assert _giving_away(own) == set()
        lent.release(wait=True)
