"""The bearer token that lies beside a store: whoever may read the store's folder may use its server.

Made on first use, mode 0600, and the same at every start.
"""

import os
import re
import secrets
import stat
from pathlib import Path

import click

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
"""The characters of an Authorization header."""


def token_file(store: str) -> Path:
    """Where the token of a store is."""
    return Path(f"{store}.token")


def make_token(file: Path) -> str:
    """The token in `file`, made if there is none. Raises `ClickException`."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return read_token(file)
    except FileNotFoundError as error:
        raise click.ClickException(
            f"the token {file} cannot be made: there is no folder {file.parent}. Create it first."
        ) from error
    except OSError as error:
        raise click.ClickException(f"the token {file} cannot be made: {error.strerror}.") from error
    token = secrets.token_urlsafe(32)
    with open(descriptor, "w", encoding="ascii") as out:
        out.write(token + "\n")
    return token


def read_token(file: Path) -> str:
    """The token in `file`. Raises `ClickException`."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="ascii", errors="replace") as given:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise click.ClickException(f"{file} is not a plain file.")
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise click.ClickException(
                    f"{file} is open to others than its owner: who has read it may use the server. "
                    "Remove it to have a new one made, or chmod 600 it."
                )
            token = given.read(1024).strip()
    except OSError as error:
        raise click.ClickException(f"the token {file} cannot be read: {error.strerror}.") from error
    if not TOKEN.fullmatch(token):
        raise click.ClickException(f"{file} holds no token. Remove it to have a new one made.")
    return token
