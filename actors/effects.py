"""Effects, which a core asks its actor to carry out: values, which a test compares without a mock."""

from typing import TypeAlias

from msgspec import Struct

from ..types import Address, Role, Seconds


class Send(Struct, frozen=True):
    """Send `message` to an actor: a role or an address that came with an earlier message."""

    to: Role | Address
    message: object


class StartTimer(Struct, frozen=True):
    """Have `message` come back after a time. It cannot be called off: it names what it is about."""

    after: Seconds
    message: object


Effect: TypeAlias = Send | StartTimer
