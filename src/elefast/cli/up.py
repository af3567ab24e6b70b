"""`elefast up`: start the configured server and leave it running, with its template built."""

from __future__ import annotations

import argparse

from elefast.cli._output import add_json, add_profile, console, print_json

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "up"
HELP = "start the configured server, build its template, and leave it running until `elefast down`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--no-template", action="store_true", help="only the server")
    add_profile(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Start it.

    Raises:
        ElefastError: It does not start, or the template cannot be built; it is not left running then.
    """
    from elefast.cli._server import configured, decisive_build
    from elefast.postgres.urls import display_url, with_driver

    with configured(arguments) as stack:
        ran = stack.server_runs()
        admin = stack.admin()
        layers = [] if arguments.no_template else admin.build_template(stack.settings.scenario)
        admin.hold()
        lease = admin.lease
        told = {
            "provider": lease.provider,
            "reason": lease.reason,
            "server": lease.description,
            "version": admin.version,
            "url": display_url(with_driver(stack.url, "postgresql")),
            "started": not ran,
            "template": layers[-1].name if layers else None,
            "template_reason": decisive_build(layers).reason if layers else None,
        }
    if arguments.json:
        print_json(told)
        return 0
    out = console()
    out.print(f"{'found' if ran else 'started'}   {told['server']}")
    out.print(f"because   {told['reason']}")
    out.print(f"url       {told['url']}; with its password: elefast url")
    if layers:
        out.print(f"template  {told['template_reason']}")
    elif not arguments.no_template:
        out.print("template  none, databases are empty")
    if lease.owned:
        out.print("It runs until `elefast down`.")
    return 0
