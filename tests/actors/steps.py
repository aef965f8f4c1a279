"""What something costs, in steps that are the same on every machine at any load."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(work: Callable[[], Any]) -> int:
    """Bytecodes executed."""
    count = 0

    def stepped(frame: FrameType, event: str, _what: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return stepped

    before = sys.gettrace()
    sys.settrace(stepped)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
