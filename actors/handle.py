"""The handles of agents and runs that programs and turns hold."""

from typing import NoReturn


class Handle:
    """Works with its own runtime, in this process: what can be stored of it is a path or an id."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} is a handle, which works in this process alone; keep its path or run_id")
