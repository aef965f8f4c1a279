"""`greenroom doctor`: what is wrong with a store at rest, and what can be put right without a loss."""

from .examination import CHECKS, examine
from .repairing import repair
from .report import Counts, DoctorReport, Finding, OwnerSeen, Repair, Severity, Sizes

__all__ = [
    "CHECKS",
    "Counts",
    "DoctorReport",
    "Finding",
    "OwnerSeen",
    "Repair",
    "Severity",
    "Sizes",
    "examine",
    "repair",
]
