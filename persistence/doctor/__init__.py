"""`greenroom doctor`: what is wrong with a store at rest, and what can be put right without a loss."""

from .examination import CHECKS, examine
from .repairing import repair
from .report import Counts, Finding, OwnerSeen, Repair, Report, Severity, Sizes

__all__ = [
    "CHECKS",
    "Counts",
    "Finding",
    "OwnerSeen",
    "Repair",
    "Report",
    "Severity",
    "Sizes",
    "examine",
    "repair",
]
