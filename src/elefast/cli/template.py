"""`elefast template`: the migrated database that the tests' databases are copied from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from elefast.cli._output import add_json, add_profile, console, print_json

if TYPE_CHECKING:
    from elefast.databases.admin import ServerAdmin
    from elefast.stack import Stack
    from elefast.templates.store import State, Template

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "template"
HELP = "show the template of a state, build it, drop the project's templates, or explain why one would be built"

_EMPTY = "databases are empty: there is no migrator, no extension and no seed, so there is no template"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=["show", "build", "drop", "explain"],
        default="show",
        help="default: %(default)s; drop leaves those in use",
    )
    parser.add_argument(
        "scenario",
        nargs="?",
        metavar="SCENARIO",
        help="a scenario; default: the state that tests start from. With drop: a layer, which may also be migrated or "
        "seeded, with all layers on it; default: all templates",
    )
    parser.add_argument("--all", action="store_true", help="with build: the templates of all scenarios")
    parser.add_argument("--force", action="store_true", help="with build: also where there is one that fits")
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it.

    Raises:
        ElefastError: There is no configuration or no server, or the template cannot be built.
    """
    from pathlib import Path

    from elefast.cli._server import configured
    from elefast.config import current_run as runs
    from elefast.config.scenarios import RESERVED

    # As `pytest --elefast-rebuild` says it to the stack that it makes.
    outer = runs.enter(runs.CurrentRun(Path.cwd(), rebuild=arguments.force)) if arguments.action == "build" else None
    try:
        with configured(arguments) as stack:
            admin = stack.admin()
            match arguments.action:
                case "build":
                    return _build(admin, _scenarios(stack, arguments), arguments.json)
                case "drop":
                    if arguments.scenario not in RESERVED:
                        stack.check_scenario(arguments.scenario, "elefast template drop")
                    return _drop(admin, arguments.scenario or "", arguments.json)
                case _:
                    (scenario,) = _scenarios(stack, arguments)
                    return _show(admin.template(scenario), arguments.json, whole=arguments.action == "explain")
    finally:
        if arguments.action == "build":
            runs.enter(outer)


def _scenarios(stack: Stack, arguments: argparse.Namespace) -> list[str]:
    """The scenarios that the command is about; an empty name for the state after migrator and seeds.

    Raises:
        ConfigurationError: There is no such scenario.
    """
    stack.check_scenario(arguments.scenario, f"elefast template {arguments.action}")
    if arguments.action == "build" and arguments.all:
        return ["", *stack.settings.scenarios]
    return [arguments.scenario or stack.settings.scenario]


def _build(admin: ServerAdmin, scenarios: Sequence[str], as_json: bool) -> int:
    from elefast.cli._server import decisive_build

    made = [layer for scenario in scenarios for layer in admin.build_template(scenario)]
    if as_json:
        print_json(_built_as_json(made, decisive_build(made)) if made else None)
        return 0
    out = console()
    if not made:
        out.print(_EMPTY)
    elif len(made) == 1:
        out.print(f"{made[0].name}\n{made[0].reason}")
    else:
        for layer in made:
            out.print(f"{layer.layer}: {layer.name}\n  {layer.reason}")
    return 0


def _drop(admin: ServerAdmin, layer: str, as_json: bool) -> int:
    names = admin.drop_templates(layer)
    if as_json:
        print_json({"dropped": names})
        return 0
    for name in names:
        print(f"dropped {name}")
    print(f"{len(names)} database{'' if len(names) == 1 else 's'} dropped")
    return 0


def _show(states: Sequence[State], as_json: bool, *, whole: bool) -> int:
    if as_json:
        print_json(_as_json(states) if states else None)
        return 0
    out = console()
    if not states:
        out.print(_EMPTY)
        return 0
    for number, state in enumerate(states):
        if len(states) > 1:
            out.print(f"{chr(10) if whole and number else ''}layer {state.layer}")
        out.print(f"{state.name}\n{state.reason}" if state.name else f"would be {state.reason}")
        if whole:
            _explain(state)
    return 0


def _explain(state: State) -> None:
    out = console()
    if state.changes:
        out.print("\nchanged since the newest one of this project:")
        for change in state.changes:
            out.print(f"  {change}")
    out.print("\nits key is made from:")
    for item in state.inputs:
        out.print(f"  {item.digest[:12]}  {item.label}")
    out.print(
        f"\nit is not kept for later runs: {state.why_not_kept}"
        if state.why_not_kept
        else "\nbesides, what the build was seen to read and import is compared with the files as they are"
    )


def _as_json(states: Sequence[State]) -> dict[str, object]:
    from elefast.cli._server import decisive

    state = decisive(states)
    return _state_as_json(state) | {"layers": [{"layer": one.layer, **_state_as_json(one)} for one in states]}


def _state_as_json(state: State) -> dict[str, object]:
    return {
        "name": state.name or None,
        "fits": bool(state.name),
        "reason": state.reason,
        "changes": list(state.changes),
        "inputs": {item.label: item.digest for item in state.inputs},
        "why_not_kept": state.why_not_kept,
    }


def _built_as_json(layers: Sequence[Template], shown: Template) -> dict[str, object]:
    return {
        "name": layers[-1].name,
        "built": any(layer.built for layer in layers),
        "reason": shown.reason,
        "layers": [
            {"layer": layer.layer, "name": layer.name, "built": layer.built, "reason": layer.reason} for layer in layers
        ],
    }
