"""The command line: `greenroom COMMAND …`. `COMMANDS` says where each one is.

Exit statuses, of every command: 0 it succeeded, 1 it failed (the reason is on stderr), 2 wrong usage, 130
stopped by Ctrl-C or SIGTERM. (`doctor` tells 1, something is wrong with the store, from 3, it could not.
Stopping a server is how it ends: `serve` then exits with 0.)
"""

import click

from .program import LoadedProgram

COMMANDS = {
    "run": "run",
    "serve": "serve",
    "mcp": "mcp",
    "ls": "listing",
    "show": "listing",
    "events": "following",
    "stats": "figures",
    "top": "figures",
    "send": "changing",
    "followup": "changing",
    "interrupt": "changing",
    "close": "changing",
    "export": "transferring",
    "import": "transferring",
    "doctor": "doctor",
}
"""In which module each command is."""


@click.group(cls=LoadedProgram, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="greenroom")
def main() -> None:
    """greenroom: a runtime for long-lived agents. Many durable, few in memory, fewer at work.

    ls, show, events, stats and top look at a store's file (--store) or at a running server (--server);
    send, followup, interrupt and close change one of the two.
    """


__all__ = ["main"]
