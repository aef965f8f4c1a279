"""Where the files of an open store are, and whether they are still those that this process has open.

An open file lives on when its name is taken away or given to another one: whatever is committed then is in
a file that nobody finds. So before each transaction the files at the store's path are compared with those
at its opening, by device and inode. That takes four looks at the file system.
"""

import os

from .keys import key_path, read_key

WATCHED = ("", "-wal", "-shm")
"""The database, its log, and the log's index, by which SQLite keeps processes out of each other's way."""


class Home:
    """The files of a store that was just opened for writing, with something written to its log."""

    def __init__(self, store: str) -> None:
        self.path = os.path.abspath(store)  # the program may go to another folder
        self._files = {suffix: _file_at(self.path + suffix) for suffix in WATCHED}
        self._key = read_key(self.path)
        self._key_file = _state(key_path(self.path))

    @property
    def names(self) -> int:
        """How many names the file has, if it is in its place."""
        try:
            return os.stat(self.path).st_nlink
        except OSError:
            return 1

    def problem(self) -> str | None:
        """The change in the store's files, and what to do about it."""
        for suffix in WATCHED:
            if _file_at(self.path + suffix) != self._files[suffix]:
                return self._gone(suffix)
        key = key_path(self.path)
        state = _state(key)
        if state != self._key_file:
            if not self._is_the_key():
                return (
                    f"{key} is not the key any more that {self.path} is signed with. Put it back, and work "
                    "goes on: without it nothing that is stored can be read."
                )
            self._key_file = state
        return None

    def _is_the_key(self) -> bool:
        try:
            return read_key(self.path) == self._key
        except Exception:  # whatever is wrong with what is there
            return False

    def _gone(self, suffix: str) -> str:
        name = self.path + suffix
        there = f"another file is at {name}" if os.path.lexists(name) else f"there is no {name} any more"
        if suffix:
            return (
                f"{there}, which the store had open. All that was committed has been copied into "
                f"{self.path}. Close this runtime and open the store again."
            )
        found = self._where()
        if found is None:
            return f"{there}, which had the store: put it back, and work goes on."
        descriptor, where = found
        if where.endswith(" (deleted)"):
            return (
                f"{there}: the store's file was deleted, and all that was committed goes with this "
                f"process. Save it while this process lives, by `cp {descriptor} FILE`, and open that."
            )
        return (
            f"{there}: the store's file is {where} now, with all that was committed until it was moved. "
            "Put it back, and work goes on; or close this runtime and open that."
        )

    def _where(self) -> tuple[str, str] | None:
        """A descriptor of the database as it is open here, and the name that it has now; on Linux."""
        folder = f"/proc/{os.getpid()}/fd"
        try:
            for number in os.listdir(folder):
                descriptor = f"{folder}/{number}"
                if _identity(os.stat(descriptor)) == self._files[""]:
                    return descriptor, os.readlink(descriptor)
        except OSError:
            pass
        return None


def _file_at(name: str) -> tuple[int, int] | None:
    """The file at a name; a symbolic link to the store is another file: the store has another name then."""
    try:
        return _identity(os.lstat(name))
    except OSError:
        return None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _state(name: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
