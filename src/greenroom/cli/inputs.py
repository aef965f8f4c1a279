"""The input for an agent on the command line: a text, what is in a file, what comes from stdin."""

from typing import Any, Literal, TypeAlias

import click
import msgspec

Form: TypeAlias = Literal["text", "json"]


def read_text(given: str | None, hint: str) -> str | None:
    """The value of an argument: the text itself, `@FILE`, `@-` for stdin, `@@…` for a text with an @."""
    if given is None or not given.startswith("@"):
        return given
    if given.startswith("@@"):
        return given[1:]
    name = given[1:]
    try:
        with click.open_file(name, encoding="utf-8") as source:  # "-" is stdin
            text: str = source.read()
            return text
    except OSError as error:
        problem = error.strerror or str(error)
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text"
    raise click.BadParameter(
        f"cannot read {name}: {problem}. (A text that begins with @ is given as @@…)", param_hint=hint
    )


def read_value(given: str | None, form: str, hint: str) -> Any:
    """The same as a value: the text, or with form "json" what that text means."""
    text = read_text(given, hint)
    if form != "json" or text is None:
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise click.BadParameter(f"it is no JSON: {error}", param_hint=hint) from error
