"""Classes of the running script: stored by value, and loaded as the script's own where it has them.

No other program can find classes of `__main__`, so cloudpickle stores them by value. The same
script, run again, has it: its own class is used then, as it is for a class of any other module. So its
members are `is` and `==` to those that the script names, and its methods are today's. A class that the
script does not have (a local one, or one of another script) is made of what was stored.

Apart from others, as importing cloudpickle takes 30 ms that few programs need.
"""

import sys
from typing import Any

import cloudpickle.cloudpickle as by_value  # type: ignore[import-untyped]

QUALNAME = "greenroom qualname"
"""The key under which a class's full name is stored, in the room that cloudpickle leaves for more. A nested
or a local class is not to be taken for one of the same short name."""


class ByValuePickler(by_value.Pickler):  # type: ignore[misc]
    """cloudpickle's, which also stores the full names of classes."""

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and type(reduced) is tuple and reduced[0] is by_value._make_skeleton_class:
            *given, extra = reduced[1]
            extra = {**(extra or {}), QUALNAME: obj.__qualname__}
            return (reduced[0], (*given, extra), *reduced[2:])
        return reduced


def make_class(maker: Any, name: str, bases: Any, kwargs: Any, tracker: Any, extra: Any) -> Any:
    """In the place of cloudpickle's `_make_skeleton_class`: the script's own class, or an empty one."""
    qualname = (extra or {}).get(QUALNAME, name)
    own = script_class(kwargs.get("__module__"), qualname)
    if own is not None:
        return own
    made = by_value._make_skeleton_class(maker, name, bases, kwargs, tracker, extra)
    if made.__qualname__ != qualname:
        made.__qualname__ = qualname
    return made


def make_enum(
    bases: Any, name: str, qualname: str, members: Any, module: Any, tracker: Any, extra: Any
) -> Any:
    """The same for `_make_skeleton_enum`."""
    own = script_class(module, qualname)
    if own is not None:
        return own
    return by_value._make_skeleton_enum(bases, name, qualname, members, module, tracker, extra)


def fill_class(made: Any, state: Any) -> Any:
    """In the place of `_class_setstate`: a class of the script's own stays as it is."""
    if script_class(made.__module__, made.__qualname__) is made:
        return made
    return by_value._class_setstate(made, state)


def script_class(module: object, qualname: str) -> type | None:
    """The class that the running script has under this name, if it has one."""
    if module != "__main__" or "__main__" not in sys.modules:
        return None
    found: object = sys.modules["__main__"]
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found if isinstance(found, type) else None


IN_PLACE_OF = {
    "_make_skeleton_class": make_class,
    "_make_skeleton_enum": make_enum,
    "_class_setstate": fill_class,
}
