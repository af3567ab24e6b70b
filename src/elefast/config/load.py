"""From all sources to one frozen model: precedence, validation, provenance, and one error for all problems.

Precedence: `from_config(...)` arguments, then `ELEFAST_*` environment variables,
then the profile in `elefast.toml`, then `elefast.toml`,
then the profile in `pyproject.toml`, then `pyproject.toml`, then defaults.
This module must not know servers, drivers or migrators. It starts nothing and imports nothing of the project.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from pydantic import ValidationError

from elefast.config.arguments import argument_layer
from elefast.config.discovery import OVERLAY, PYPROJECT, FoundFiles, directories, find, in_directory
from elefast.config.environment import PROFILE, environment_layer
from elefast.config.keys import KeyPath, all_keys, closest, dotted, key_at
from elefast.config.layers import Finding, Layer
from elefast.config.loaded import Loaded
from elefast.config.messages import (
    describe_validation_error,
    format_value,
    inside_value,
    quoted_list,
    suggestion,
)
from elefast.config.migrator_selection import alembic_file, select_migrator
from elefast.config.model import Settings
from elefast.config.provenance import DEFAULT, Origin
from elefast.config.rules import Facts, violations
from elefast.config.toml_files import TomlFile, read_file
from elefast.errors import ConfigurationError, Problem
from elefast.runtime.text import one_line

if TYPE_CHECKING:
    from elefast.config.overrides import Overrides

__all__ = ["HINT", "Loaded", "Resolved", "load_settings", "resolve"]

_LONGEST_PATH = 250

HINT = 'run "elefast config --origin" to see every value and where it came from'


@dataclass(frozen=True)
class Resolved:
    """A configuration that may have problems, for commands that show it anyway.

    Args:
        loaded: The configuration. In `loaded.settings`, a key whose value is wrong has its default.
        values: The values in force by path, as they were written, right or wrong.
        problems: All problems.
    """

    loaded: Loaded
    values: Mapping[KeyPath, Any]
    problems: tuple[Problem, ...]


def load_settings(
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    env: Mapping[str, str] | None = None,
    start: Path | None = None,
    **overrides: Unpack[Overrides],
) -> Loaded:
    """Read, merge and validate the configuration; nothing is started.

    Args:
        path: A file or a directory to start from. A `.toml` file of another name than the usual ones is read
            as an `elefast.toml`, alone. A relative path starts from `start`.
        profile: The profile; by default the one that `ELEFAST_PROFILE` names.
        env: The environment; by default `os.environ`.
        start: The directory to search upwards from if there is no `path`; by default the working directory.
        overrides: Keys of the model as nested mappings, or with two underscores: `docker__port=5433`.
            If there are any, a project without a configuration is allowed.

    Raises:
        ConfigurationError: There is no configuration, or it has problems. The error lists all of them.
    """
    resolved = resolve(path, profile=profile, env=env, start=start, **overrides)
    if resolved.problems:
        raise ConfigurationError(resolved.problems, HINT)
    return resolved.loaded


def resolve(
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    env: Mapping[str, str] | None = None,
    start: Path | None = None,
    **overrides: Any,
) -> Resolved:
    """The same as `load_settings()`, but problems are returned.

    Raises:
        ConfigurationError: There is no configuration, so there is nothing to show.
    """
    env = os.environ if env is None else env
    base = Path(os.path.abspath(start or Path.cwd()))
    found = _find(path, base, allow_none=bool(overrides))
    directory = found.directory

    files: list[TomlFile] = []
    if found.overlay:
        files.append(read_file(found.overlay, ()))
    if found.pyproject:
        files.append(read_file(found.pyproject, ("tool", "elefast")))
    elif (beside := read_file(directory / PYPROJECT, ("tool", "elefast"))).broken and beside.path.exists():
        # It may have the table, or Alembic's; that cannot be told while it is broken.
        files.append(beside)
    arguments = argument_layer(overrides, directory)
    environment = environment_layer(env, directory)
    findings = [*arguments.findings, *environment.findings]
    findings += [finding for file in files for finding in file.findings]

    name = profile or env.get(PROFILE, "")
    if name:
        chosen_by = Origin("argument", "profile") if profile else Origin("environment", PROFILE)
        findings += _unknown_profile(name, chosen_by, files)
    layers = [arguments, environment]
    for file in files:
        layers += [file.profiles[name]] if name in file.profiles else []
        layers.append(file.layer)
    layers.append(_default_paths(directory))

    written = {table for layer in layers for table in layer.tables}
    facts = Facts(written, env, complete=not any(file.broken for file in files))
    in_force = _merge(layers)
    settings, wrong = _validate(in_force, layers, facts)
    findings += wrong
    # Problems of a profile that is not in force are reported now, and not when it is first used.
    for file in files:
        for other, layer in file.profiles.items():
            if other != name:
                findings += _validate(_merge([layer]), [layer], replace(facts, complete=False))[1]
    loaded = Loaded(
        settings=settings,
        provenance=_provenance(in_force),
        files=tuple(file.path for file in files),
        directory=directory,
        project=directory,
        migrator=select_migrator(settings, written, directory),
        profile=name,
    )
    values = {path: layer.values[path] for path, layer in in_force.items()}
    return Resolved(loaded, values, _problems(findings))


def _find(path: str | os.PathLike[str] | None, base: Path, *, allow_none: bool) -> FoundFiles:
    """The files to read: those of `path`, or the nearest ones from `base` upwards."""
    start = base
    if path is not None:
        start = Path(os.path.abspath(base / os.path.expanduser(path)))
        if not os.path.lexists(start):
            raise ConfigurationError([Problem(str(start), "", "does not exist", code="config-not-found")], HINT)
        if start.suffix == ".toml" and not start.is_dir():
            return _named(start)
    found = find(start)
    if found is not None:
        return found
    if path is None and allow_none:
        return FoundFiles(base, None, None)
    raise ConfigurationError(
        _nothing_found(start),
        'run "elefast init" in the project\'s directory, or write a table [tool.elefast] in its pyproject.toml',
    )


def _named(file: Path) -> FoundFiles:
    """The files to read if the user named one of them."""
    if file.name not in (OVERLAY, PYPROJECT):
        return FoundFiles(file.parent, file, None)
    found = in_directory(file.parent) or FoundFiles(file.parent, None, None)
    if file.name == PYPROJECT and found.pyproject is None:
        # Also if an elefast.toml lies beside it: a user who names this file expects that it has a table.
        probe = read_file(file, ("tool", "elefast"))
        problems = probe.findings or [
            Finding(Origin("file", file.name), "", "has no table [tool.elefast]", code="config-not-found")
        ]
        raise ConfigurationError(_problems(problems), HINT)
    return found


def _nothing_found(start: Path) -> list[Problem]:
    problems = [
        Problem(
            "",
            "",
            f"no configuration found, looked in {one_line(str(start), _LONGEST_PATH)} and the directories above it",
            code="config-not-found",
        )
    ]
    for directory in directories(start):
        pyproject = directory / PYPROJECT
        if pyproject.is_file():
            nothing = Finding(Origin("file", PYPROJECT), "", "has no table [tool.elefast]", code="config-not-found")
            found = next(iter(read_file(pyproject, ("tool", "elefast")).findings), nothing)
            problems.append(Problem(f"{directory / str(found.origin)}", "", found.message, code=found.code))
    return problems


def _unknown_profile(name: str, chosen_by: Origin, files: list[TomlFile]) -> list[Finding]:
    known = sorted({profile for file in files for profile in file.profiles})
    if name in known or any(file.broken for file in files):
        return []
    advice = suggestion(closest(name, known))
    there = f"the known ones are {quoted_list(known)}" if known else "there are no profiles"
    message = f"unknown profile {format_value('profile', name)}, {there}{advice}"
    return [Finding(chosen_by, "", message, code="unknown-profile")]


def _default_paths(directory: Path) -> Layer:
    """The defaults that are paths, made absolute. That of Alembic is the file that configures it here."""
    layer = Layer(lambda _: DEFAULT, directory)
    for key in all_keys():
        if key.file and isinstance(key.default, str) and key.default:
            name = key.default
            if key.path == ("alembic", "config"):
                name = alembic_file(directory) or name
            layer.values[key.path] = str(directory / name)
    return layer


def _merge(layers: list[Layer]) -> dict[KeyPath, Layer]:
    """Each path that has a value, with the layer whose value is in force: the first one of `layers` that has one.

    Where one layer has a value and another layer has a table, the first of them is in force alone.
    """
    in_force: dict[KeyPath, Layer] = {}
    for layer in layers:
        inner = {path[:end] for path in in_force for end in range(1, len(path))}
        for path in layer.values:
            if path not in inner and not any(path[:end] in in_force for end in range(1, len(path) + 1)):
                in_force[path] = layer
    return in_force


def _nested(in_force: Mapping[KeyPath, Layer], without: set[KeyPath], named: Iterable[KeyPath]) -> dict[str, Any]:
    """The values in force as nested dictionaries, except those at or below a path of `without`.

    Args:
        in_force: The values in force.
        without: The paths to leave out.
        named: Tables with a name of the project's choice, which are there even if they are empty.
    """
    result: dict[str, Any] = {}
    for table_name, name in sorted(named):
        result.setdefault(table_name, {})[name] = {}
    for path, layer in in_force.items():
        if any(path[:end] in without for end in range(1, len(path) + 1)):
            continue
        table = result
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = layer.values[path]
    return result


def _validate(in_force: Mapping[KeyPath, Layer], layers: list[Layer], facts: Facts) -> tuple[Settings, list[Finding]]:
    """The settings, and what is wrong with values. A wrong value is left out, so that all others are checked."""
    findings: list[Finding] = []
    wrong: set[KeyPath] = set()
    while True:
        try:
            settings = Settings(**_nested(in_force, wrong, {path for layer in layers for path in layer.named}))
            break
        except ValidationError as error:
            explained = list(_explained(error, layers))
            if wrong.issuperset(path for path, _ in explained):
                raise  # the value is a default, so leaving it out again would not help
            findings += [finding for _, finding in explained]
            wrong |= {path for path, _ in explained}
    known = wrong.union(*(layer.refused for layer in layers))
    for violation in violations(settings, facts) if facts.complete else ():
        if known.isdisjoint((violation.path, *violation.others)):
            places = (_origin(path, layers) for path in (violation.path, *violation.others))
            origin = next((place for place in places if place != DEFAULT), DEFAULT)
            if violation.variable:
                origin = Origin("environment", violation.variable)
            findings.append(Finding(origin, dotted(violation.path), violation.message, code=violation.code))
    return settings, findings


def _explained(error: ValidationError, layers: list[Layer]) -> Iterator[tuple[KeyPath, Finding]]:
    """The path and the finding of each wrong value.

    For a union, pydantic has one error for each member; one finding stands for all of them.
    """
    seen: set[tuple[str | int, ...]] = set()
    for details in error.errors(include_url=False):
        key = key_at(details["loc"])
        assert key is not None, "unknown keys are found before validation"
        written = tuple(map(str, details["loc"][: len(key.path)]))
        inside = inside_value(key, details["loc"])[:1]
        place = (*written, *(inside if key.types == (list,) or key.is_open else ()))
        if place not in seen:
            seen.add(place)
            path = (*written, *map(str, inside)) if key.is_open else written
            yield (
                path,
                Finding(
                    _origin(place, layers), dotted(path), describe_validation_error(key, details), code="wrong-value"
                ),
            )


def _origin(path: tuple[str | int, ...], layers: list[Layer]) -> Origin:
    """The place of the value or the table at `path`, in the first layer that has it."""
    for layer in layers:
        if path in layer.values or path in layer.named or (path[0] in layer.tables and len(path) == 1):
            return layer.where(path)
        for written in layer.values:
            shared = min(len(written), len(path))
            if written[:shared] == path[:shared]:
                return layer.where(path)
    return DEFAULT


def _provenance(in_force: Mapping[KeyPath, Layer]) -> dict[str, Origin]:
    provenance = {key.name: DEFAULT for key in all_keys() if not key.is_open}
    return provenance | {dotted(path): layer.where(path) for path, layer in in_force.items()}


def _problems(findings: list[Finding]) -> tuple[Problem, ...]:
    ordered = sorted(findings, key=lambda finding: (finding.origin.sort_key, finding.key))
    problems = [Problem("" if f.origin == DEFAULT else str(f.origin), f.key, f.message, code=f.code) for f in ordered]
    return tuple(dict.fromkeys(problems))
