"""A store's agents as a document of JSON lines, and such a document put into another store."""

from .document import VERSION, DocumentRefused, Sealing, fingerprint
from .exporting import Exported, export
from .importing import Imported, import_agents

__all__ = [
    "VERSION",
    "DocumentRefused",
    "Exported",
    "Imported",
    "Sealing",
    "export",
    "fingerprint",
    "import_agents",
]
