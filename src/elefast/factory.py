"""From settings to a stack: the one module that knows both the configuration and the machinery.

It only decides which parts there are and hands each its plain arguments; it starts nothing.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sqlalchemy import URL, make_url

from elefast import migrators, providers
from elefast.config import Loaded, current_run, settings_for_run
from elefast.config.cache import validated
from elefast.config.drivers import async_driver, sync_driver
from elefast.config.toml_reader import read_toml
from elefast.databases.spec import EngineOptions, PoolOptions, RoleOptions, ServiceSpec
from elefast.errors import ConfigurationError, Problem

# What is not used is not imported: these packages import their parts when they are asked for them.
from elefast.runtime import cache_dir
from elefast.runtime.hashing import digest
from elefast.stack import Stack
from elefast.templates.options import TemplateOptions

if TYPE_CHECKING:
    from elefast.config import Settings
    from elefast.config.overrides import Overrides
    from elefast.migrators import Plan, Step
    from elefast.providers import DockerProvider, LocalProvider, Provider

__all__ = ["from_config"]

_OF_POOLS = ("pool_timeout", "pool_use_lifo")

_stacks: dict[str, Stack] = {}
_lock = threading.Lock()


def from_config(
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    env: Mapping[str, str] | None = None,
    **overrides: Unpack[Overrides],
) -> Stack:
    """The stack that a project's configuration describes. Validates now, starts nothing until it is used.

    The same settings give the same stack within a process, until that is closed; what is still open at the
    end of the process is closed then.

    Args:
        path: A configuration file, or a directory to look upwards from; without it pytest's rootdir during
            a run, else the working directory.
        profile: Instead of ``--elefast-profile`` and ``ELEFAST_PROFILE``.
        env: Instead of the process's environment.
        **overrides: Keys of the configuration, such as ``provider="local"`` or ``pool={"size": 8}``.

    Raises:
        ConfigurationError: With all that is wrong in it.
    """
    current = current_run.current()
    environment = os.environ if env is None else env
    given = path is not None or env is not None or profile is not None or bool(overrides)
    if current is not None and current.resolve is not None and not given:
        loaded = current.resolve()
    else:
        loaded = settings_for_run(
            path,
            profile=profile or (current.profile if current else "") or None,
            env=environment,
            start=current.start if current else Path.cwd(),
            caches=cache_dir.cache_directory(environment),
            **overrides,
        )
    rebuild = current.rebuild if current else False
    test_run = current.test_run if current else ""
    values = _text(loaded.settings.model_dump())
    identity = digest(values, str(loaded.project), str(os.getpid()), str(rebuild), test_run)
    with _lock:
        stack = _stacks.get(identity)
        if stack is None or stack.closed:
            _check_engines(loaded)
            recipe = _recipe(loaded, test_run, owned=_named_url(loaded) is None)
            settings = loaded.settings
            stack = _stacks[identity] = Stack(
                _spec(loaded, environment, recipe, rebuild=rebuild, test_run=test_run),
                settings=functools.cache(lambda: validated(settings)),
                provenance=loaded.provenance,
                migrator=recipe,
                on_close=lambda closed: _forget(identity, closed),
            )
        return stack


def _text(values: dict[str, Any]) -> str:
    """The settings as text. An argument may be any object, such as a pool class; it is known by its repr then."""
    try:
        return json.dumps(values, default=repr, sort_keys=True)
    except TypeError:  # tables in it whose keys are no strings
        return repr(values)


def _forget(identity: str, closed: Stack) -> None:
    if _stacks.get(identity) is closed:
        del _stacks[identity]


@atexit.register
def _close_all() -> None:
    for stack in list(_stacks.values()):
        stack.close()


def _named_url(loaded: Loaded) -> URL | None:
    """The server that the project names; None where elefast starts one. A URL beside another provider is legal, and not
    the server's."""
    settings = loaded.settings
    url = settings.engine.url
    return make_url(url) if url and settings.provider in ("auto", "url") else None


def _spec(loaded: Loaded, env: Mapping[str, str], recipe: Plan | None, *, rebuild: bool, test_run: str) -> ServiceSpec:
    settings = loaded.settings
    url = _named_url(loaded)
    return ServiceSpec(
        provider=_provider(loaded, url, env, sync_driver(settings)),
        recipe=recipe,
        url=url,
        requirement=settings.postgres,
        engines=_engines(loaded),
        templates=TemplateOptions(
            project=_project(loaded),
            test_run=test_run,
            strategy=settings.template.strategy,
            cache=settings.template.cache,
            rebuild=rebuild,
            keep=settings.template.keep,
            max_age=_seconds(settings.template.max_age),
            roles=tuple(sorted(settings.roles)),
        ),
        pool=PoolOptions(size=settings.pool.size, max=settings.pool.max, reuse=settings.pool.reuse),
        roles=_roles(settings),
        watches_cluster=settings.leaks != "ignore",
        origins=loaded.provenance,
        libpq_variables=current_run.libpq_variables,
        scenario=settings.scenario,
    )


def _roles(settings: Settings) -> RoleOptions:
    if not settings.roles:
        return RoleOptions()
    from elefast.postgres.roles import Role

    declared = [Role(name, tuple(role.member_of), role.bypass_rls) for name, role in settings.roles.items()]
    return RoleOptions(declared=tuple(declared), tests=settings.role)


def _engines(loaded: Loaded) -> EngineOptions:
    settings = loaded.settings
    engine = settings.engine
    options: dict[str, Any] = {"echo": engine.echo, **engine.options}
    # A pool class of the project's own need not have a size.
    sized = "poolclass" not in engine.options
    pool = {"pool_size": engine.pool_size, "max_overflow": engine.max_overflow} if sized else {}
    # Async engines keep connections only where the project wrote so; a default does not ask for it.
    written = {key: value for key, value in pool.items() if not _is_default(loaded, f"engine.{key}")}
    # Without a pool there is nothing to wait for in it.
    unused = () if written or not sized else _OF_POOLS
    async_options = {key: value for key, value in options.items() if key not in unused}
    return EngineOptions(
        driver=sync_driver(settings),
        async_driver=async_driver(settings),
        keywords={**pool, **options, "connect_args": engine.connect_args},
        async_keywords={**written, **async_options, "connect_args": engine.async_connect_args},
    )


def _seconds(age: str) -> float:
    """The seconds of ``12h`` or ``7d``; 0 for none."""
    for unit, seconds in (("min", 60), ("s", 1), ("h", 3600), ("d", 86400)):
        if age.endswith(unit):
            return float(age.removesuffix(unit)) * seconds
    return 0.0


def _check_engines(loaded: Loaded) -> None:
    """See that engines can be made as the project wants them, before anything is started for them.

    Raises:
        ConfigurationError: With what SQLAlchemy and the drivers do not take.
    """
    engine = loaded.settings.engine
    if not (engine.options or engine.connect_args or engine.async_connect_args):
        return
    from elefast.postgres.connections.engine_options import invalid_options

    found = invalid_options(
        sync_driver(loaded.settings),
        async_driver(loaded.settings),
        engine.options,
        engine.connect_args,
        engine.async_connect_args,
    )
    problems = [Problem(_place(loaded, f"engine.{key}"), f"engine.{key}", why, code=code) for key, why, code in found]
    if problems:
        raise ConfigurationError(problems)


def _place(loaded: Loaded, key: str) -> str:
    """Where `key`, or the first thing in it, was written."""
    places = (str(place) for name, place in loaded.provenance.items() if name == key or name.startswith(f"{key}."))
    return next(places, "")


def _is_default(loaded: Loaded, key: str) -> bool:
    return str(loaded.provenance[key]) == "default"


def _project(loaded: Loaded) -> str:
    """Whose templates these are: the project's name, so that checkouts and machines share them."""
    try:
        return str(read_toml(loaded.project / "pyproject.toml").table()["project"]["name"])
    except (OSError, KeyError, TypeError, ValueError):
        return loaded.project.name


def _provider(loaded: Loaded, url: URL | None, env: Mapping[str, str], driver: str) -> Provider:
    settings = loaded.settings
    reason = f"provider = {json.dumps(settings.provider)}, {loaded.provenance['provider']}"
    match settings.provider:
        case "url":
            return providers.UrlProvider(settings.engine.url, reason=reason)
        case "local":
            return _local(loaded, env, driver, reason)
        case "docker":
            return _docker(loaded, env, driver, reason)
        case "auto" if url is not None:
            return providers.UrlProvider(
                settings.engine.url, reason=f"auto: engine.url is set, {loaded.provenance['engine.url']}"
            )
        case "auto":
            from elefast.providers.docker import probe

            docker, local = _docker(loaded, env, driver, "auto"), _local(loaded, env, driver, "auto")
            return providers.AutoProvider(
                [
                    providers.Candidate("docker", docker.acquire, functools.partial(probe, env), docker.running),
                    providers.Candidate("local", local.acquire, running=local.running),
                ]
            )


def _docker(loaded: Loaded, env: Mapping[str, str], driver: str, reason: str) -> DockerProvider:
    settings = loaded.settings
    docker = settings.docker
    return providers.DockerProvider(
        image=docker.image,
        name=docker.name,
        host=docker.host,
        port=docker.port,
        user=docker.user,
        password=docker.password,
        reuse=not env.get("CI") if docker.reuse == "auto" else docker.reuse,
        pull=docker.pull,
        tmpfs=docker.tmpfs,
        shm_size=docker.shm_size,
        platform=docker.platform,
        settings=providers.server_settings(**settings.tuning.model_dump()),
        project=loaded.project,
        reason=reason,
        scram_iterations=_scram_iterations(loaded, driver),
        env=env,
    )


def _local(loaded: Loaded, env: Mapping[str, str], driver: str, reason: str) -> LocalProvider:
    settings = loaded.settings
    local = settings.local
    return providers.LocalProvider(
        bin_dir=local.bin_dir,
        data_dir=local.data_dir,
        run_as=local.run_as,
        reuse=not env.get("CI") if local.reuse == "auto" else local.reuse,
        settings=providers.server_settings(**settings.tuning.model_dump()),
        requirement=settings.postgres,
        extensions=settings.extensions,
        project=loaded.project,
        reason=reason,
        scram_iterations=_scram_iterations(loaded, driver),
    )


def _scram_iterations(loaded: Loaded, driver: str) -> int:
    """How many rounds of hashing the password of a server of our own gets. One round saves milliseconds with each
    connection.

    It is safe: the password is random, or of no use to anybody. But pg8000, and JDBC, which a command may use,
    take no fewer rounds than PostgreSQL's default.
    """
    drivers = (driver, *loaded.settings.export_env, *loaded.settings.alembic.env)
    short = loaded.migrator.migrator != "command" and not any("pg8000" in name for name in drivers)
    return 1 if short else 4096


def _recipe(loaded: Loaded, test_run: str, *, owned: bool) -> Plan | None:
    """How databases are made; None where there is nothing to put into them."""
    settings = loaded.settings
    migrator = _migrator(loaded)
    grants = {name: role.grants for name, role in settings.roles.items() if role.grants != "none"}
    if migrator is None and not (settings.extensions or settings.seed or settings.scenarios or grants):
        return None
    return migrators.Plan(
        root=loaded.project,
        extensions=settings.extensions,
        migrator=migrator,
        grants=grants,
        seeds=settings.seed,
        scenarios={name: migrators.Scenario(one.base, one.seed) for name, one in settings.scenarios.items()},
        patch=settings.patch,
        watch=settings.template.watch,
        watch_variables=settings.template.variables,
        url_variables=[*settings.export_env, *settings.alembic.env],
        driver=sync_driver(settings).partition("+")[2],
        async_driver=async_driver(settings).partition("+")[2],
        test_run=test_run,
        owned=owned,
    )


def _migrator(loaded: Loaded) -> Step | None:
    settings = loaded.settings
    match loaded.migrator.migrator:
        case "metadata":
            target = settings.metadata.target
            return migrators.Metadata((target,) if isinstance(target, str) else tuple(target))
        case "alembic":
            alembic = settings.alembic
            return migrators.Alembic(alembic.config, alembic.section, alembic.revision, tuple(alembic.x))
        case "sql":
            return migrators.Sql(tuple(settings.sql.files))
        case "callable":
            return migrators.Function(settings.callable.target)
        case "command":
            return migrators.Command(tuple(settings.command.run), tuple(settings.command.env))
        case "none":
            return None
