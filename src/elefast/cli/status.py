"""`elefast status`: whether the configured server runs, and what there is on it; starts nothing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from elefast.cli._output import add_json, add_profile, console, print_json

if TYPE_CHECKING:
    from elefast.stack import Stack

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "status"
HELP = "say whether the configured server runs, who uses it, and what is on it; starts nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show it.

    Raises:
        ElefastError: There is no configuration, or a server that runs does not let us in.
    """
    from elefast.cli._server import configured, shown_size

    with configured(arguments) as stack:
        told: dict[str, Any] = _facts(stack) if stack.server_runs() else {"running": False, "project": stack.project}
    if arguments.json:
        print_json(told)
        return 0
    out = console()
    if not told["running"]:
        out.print(f"the server of {told['project']} does not run; the tests start it, or `elefast up`")
        return 0
    kinds = ", ".join(f"{number} {kind}" for kind, number in told["databases"].items()) or "none"
    out.print(f"provider   {told['provider']} ({told['reason']})")
    out.print(f"server     {told['server']}")
    out.print(f"url        {told['url']}")
    out.print(f"template   {told['template']}")
    out.print(f"databases  {kinds}; {shown_size(told['size'])}")
    for holder in told["used_by"]:
        out.print(f"used by    {holder}")
    return 0


def _facts(stack: Stack) -> dict[str, Any]:
    from elefast.cli._server import count, template_in_words
    from elefast.postgres.urls import display_url, with_driver

    admin = stack.admin()
    items = admin.inventory()
    return {
        "running": True,
        "project": stack.project,
        "provider": admin.lease.provider,
        "reason": admin.lease.reason,
        "server": admin.lease.description,
        "version": admin.version,
        "url": display_url(with_driver(stack.url, "postgresql")),
        "template": template_in_words(admin.template(stack.settings.scenario)),
        "databases": count(items),
        "size": sum(max(0, item.size) for item in items),
        "used_by": sorted({item.holder for item in items if item.holder}),
    }
