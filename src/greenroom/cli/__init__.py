"""The command line: `greenroom COMMAND …`. Each command is a module of its own and joins `main` here.

Exit statuses, of every command: 0 it did what it was for, 1 it could not (the reason is on stderr), 2 it
was called wrongly, 130 it was stopped by Ctrl-C or SIGTERM. (`doctor` tells 1, something is wrong with the
store, from 3, it could not.)
"""

import click

from .doctor import doctor
from .program import Program
from .run import run


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="greenroom")
def main() -> None:
    """greenroom: a runtime for long-lived agents. Many durable, few in memory, fewer at work."""


main.add_command(run)
main.add_command(doctor)

__all__ = ["main"]
