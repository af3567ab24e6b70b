"""`elefast check`: what works here and what does not, each with one remedy; it never stops at the first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from elefast.cli._output import add_json, add_profile, console, print_json

if TYPE_CHECKING:
    from elefast.cli.check._probe import ProbeReport

__all__ = ["ALIASES", "HELP", "NAME", "add_arguments", "run"]

NAME = "check"
ALIASES = ("doctor",)
HELP = "look at configuration, drivers, Docker, binaries, server, template and leftovers; one remedy for each ✗"

_MARKS = {"ok": ("✓", "ok", "green"), "warning": ("!", "!", "yellow"), "failed": ("✗", "FAILED", "red")}
_SKIPPED = ("-", "-", "dim")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--start",
        action="store_true",
        help="start the server where it does not run, build the template, try a database",
    )
    parser.add_argument(
        "--ci",
        nargs="?",
        const="",
        metavar="SYSTEM",
        help="print what a CI system needs for this project instead: github, gitlab, circleci, azure, bitbucket or "
        "shell; default: that of the files in this directory, else github",
    )
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look at everything; 1 where something is wrong.

    Raises:
        ConfigurationError: There is no configuration, so there is nothing to look at.
        UsageError: There is no such CI system.
    """
    from elefast.cli.init.project import read_project
    from elefast.config.load import resolve

    resolved = resolve(profile=arguments.profile)
    seen = read_project(resolved.loaded.project)
    if arguments.ci is not None:
        from elefast.cli.check.ci import block

        print(block(arguments.ci, resolved.loaded.settings, seen), end="")
        return 0
    from elefast.cli.check._probe import run_all
    from elefast.cli.check.project import PATIENCE, ProjectProbes

    probes = ProjectProbes(resolved, seen).probes()
    # Longer than the processes of these probes may take, so that a probe can say what took the time.
    findings = list(_shown(run_all(probes, seconds=PATIENCE + 10), quiet=arguments.json))
    findings += _shown(_rest(arguments, findings), quiet=arguments.json)
    failed = [finding for finding in findings if finding.status == "failed"]
    if arguments.json:
        print_json([finding.to_dict() for finding in findings])
    elif failed:
        console().print(f"\n{len(failed)} wrong: {', '.join(finding.probe for finding in failed)}")
    return 1 if failed else 0


def _rest(arguments: argparse.Namespace, findings: list[ProbeReport]) -> Iterator[ProbeReport]:
    """Machine and server; there is no server to speak of where the configuration is wrong."""
    from elefast.cli.check._probe import ProbeReport, run_all
    from elefast.cli.check.machine import MachineProbes
    from elefast.cli.check.server import ServerProbes
    from elefast.config.load import resolve
    from elefast.factory import from_config

    resolved = resolve(profile=arguments.profile)
    yield from run_all(MachineProbes(resolved.loaded.settings).probes())
    if resolved.problems:
        yield ProbeReport("server", "skipped", "not checked, since it needs: configuration")
        return
    with from_config(profile=arguments.profile) as stack:
        yield from run_all(ServerProbes(stack, start=arguments.start).probes(), seconds=120 if arguments.start else 40)


def _shown(findings: Iterator[ProbeReport], *, quiet: bool) -> Iterator[ProbeReport]:
    for finding in findings:
        if not quiet:
            _show(finding)
        yield finding


def _show(finding: ProbeReport) -> None:
    from rich.text import Text

    mark, plain, style = _MARKS.get(finding.status, _SKIPPED)
    first, *rest = finding.fact.splitlines() or [""]
    line = Text.assemble((mark if _has(mark) else plain, style), f" {finding.probe:<14}{first}")
    out = console()
    out.print(line, style="dim" if finding.status == "skipped" else None)
    for more in rest:
        out.print(f"  {'':<14}{more}")
    if finding.remedy:
        out.print(Text.assemble(f"  {'':<14}", ("→ " if _has("→") else "-> ", style), finding.remedy))


def _has(mark: str) -> bool:
    """Whether the output can show it."""
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
