"""Loaded sources: Thespian's way to deploy actor code by version, taken over as it is.

A source is a zip archive known by a digest of its bytes. A Source Authority actor has to validate it
before anything of it can be used.
"""

import hashlib
import logging
import sys
from typing import Any

from thespian.actors import ActorAddress, LoadedSource, UnloadedSource, ValidatedSource, ValidateSource
from thespian.system.sourceLoader import SourceHashFinder

log = logging.getLogger("Thespian")


class Sources:
    """The part of a system base that loads and unloads sources."""

    system_address: Any

    def __init__(self) -> None:
        self.sources: dict[str, Any] = {}  # archives by their digest
        self._authority: ActorAddress | None = None
        self._listeners: list[ActorAddress] = []

    def put(self, to: ActorAddress, message: Any, sender: ActorAddress) -> None:
        """Queue a message: the base's."""
        raise NotImplementedError

    def registerSourceAuthority(self, address: ActorAddress) -> None:
        """This actor validates sources from now on."""
        self._authority = address

    def registerSourceNotifications(self, address: ActorAddress, enable: bool) -> None:
        """This actor wants to hear (or no longer) what is loaded, now and later."""
        self.forget_source_listener(address)
        if enable:
            self._listeners.append(address)
            for digest in self.sources:
                self.put(address, LoadedSource(digest, ""), self.system_address)

    def forget_source_listener(self, address: ActorAddress) -> None:
        """This actor hears no more of sources."""
        if self._listeners:
            self._listeners = [listener for listener in self._listeners if listener != address]
        if self._authority is address:
            self._authority = None

    def loadActorSource(self, source: Any) -> str:
        """Have the authority validate an archive (a path or an open file); returns its digest."""
        if hasattr(source, "read"):
            with source:
                data = source.read()
        else:
            with open(source, "rb") as file:
                data = file.read()
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()  # Thespian's name for it
        if self._authority is not None:
            self.put(self._authority, ValidateSource(digest, data), self.system_address)
        return digest

    def validated(self, message: ValidatedSource) -> None:
        """The authority has decided; an archive that it did not return is not loaded."""
        digest, archive = message.sourceHash, message.sourceZip
        try:
            SourceHashFinder(digest, lambda value: value, archive).getZipNames()
        except Exception as error:
            log.error("Validated source (hash %s) is corrupted: %s", digest, error)
            return
        self.sources[digest] = archive
        for listener in self._listeners:
            self.put(listener, LoadedSource(digest, ""), self.system_address)

    def unloadActorSource(self, digest: str) -> None:
        """Forget an archive and the modules that were imported from it."""
        if self.sources.pop(digest, None) is not None:
            for listener in self._listeners:
                self.put(listener, UnloadedSource(digest, ""), self.system_address)
        for finder in list(sys.meta_path):
            if getattr(finder, "srcHash", None) == digest:
                root = finder.hashRoot()  # type: ignore[attr-defined]
                for name in [name for name in sys.modules if name.startswith(root)]:
                    del sys.modules[name]
                sys.meta_path.remove(finder)
                break

    def unload_all_sources(self) -> None:
        """Leave nothing of them in the process."""
        for digest in list(self.sources):
            self.unloadActorSource(digest)
