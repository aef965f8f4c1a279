from collections.abc import Callable
from typing import Any

def loadModuleFromHashSource(
    sourceHash: str, sources: dict[str, Any], modName: str, modClass: str
) -> Any: ...

class SourceHashFinder:
    def __init__(self, srcHash: str, decryptor: Callable[[Any], Any], encryptedSrc: Any) -> None: ...
    def getZipNames(self) -> list[str]: ...
