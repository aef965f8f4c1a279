"""The answer to a request that a bug keeps from being handled: it alone is refused."""

from typing import Any

from ..borders import shown
from ..errors import InternalError
from ..types import Address
from .effects import Send
from .ledger.replies import RequestRefused


def refused(message: Any, sender: Address, role: str, error: BaseException) -> Send:
    """Refuse `message`, a request, for a bug in its actor."""
    reply_to = getattr(message, "reply_to", sender)
    return Send(reply_to, RequestRefused(message.request, bug_in(message, role, error)))


def bug_in(message: object, role: str, error: BaseException) -> InternalError:
    """The error of a bug that ends nothing but the subject of `message`."""
    problem = f"the {role} could not handle {type(message).__name__}: {shown(error)}"
    return InternalError(problem, stopped=False)
