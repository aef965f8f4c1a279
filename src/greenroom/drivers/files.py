"""Files that an agent asks for, inside one folder and nowhere else.

No link is followed: each name of a path is opened by itself, below the folder that was opened before it,
so nothing that changes meanwhile leads outside. This bounds what is done *for* the program; what it does
itself, it does with the rights of its user.
"""

import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LARGEST_FILE_BYTES = 16 << 20
"""Bytes of a file that is read or written for an agent."""


class FileRefused(Exception):
    """The problem with the path, or with the file there."""


class Folder:
    """All that can be reached."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._real = os.path.realpath(root)  # programs that ask where they are find this one

    def read(self, path: str, line: int | None = None, limit: int | None = None) -> str:
        """The text of a file; from `line` on (the first is 1), at most `limit` lines."""
        with self._parent(path) as (folder, name):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = _opened(path, name, flags, folder)
        try:
            _check_plain(path, os.fstat(descriptor))  # first: a folder can be opened, too
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(LARGEST_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > LARGEST_FILE_BYTES:
            raise FileRefused(f"{path} is larger than {LARGEST_FILE_BYTES:,} bytes")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise FileRefused(f"{path} is no UTF-8 text: {error.reason}") from None
        if line is None and limit is None:
            return text
        begin = max((line or 1) - 1, 0)
        # by newlines alone, as everybody counts
        lines = io.StringIO(text, newline="\n").readlines()[begin:]
        return "".join(lines if limit is None else lines[:limit])

    def write(self, path: str, text: str) -> None:
        """Put `text` in the place of a file, or in a new one: wholly or not at all."""
        data = text.encode(errors="surrogatepass")
        if len(data) > LARGEST_FILE_BYTES:
            raise FileRefused(f"{path} would be larger than {LARGEST_FILE_BYTES:,} bytes")
        with self._parent(path) as (folder, name):
            mode = 0o666
            with suppress(FileNotFoundError):
                there = os.stat(name, dir_fd=folder, follow_symlinks=False)
                _check_plain(path, there)
                mode = stat.S_IMODE(there.st_mode)
            draft = f".greenroom-{secrets.token_hex(8)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = _opened(path, draft, flags, folder, mode)
            try:
                with open(descriptor, "wb") as file:
                    file.write(data)
                    if mode != 0o666:
                        os.fchmod(descriptor, mode)
                os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as error:
                with suppress(OSError):
                    os.unlink(draft, dir_fd=folder)
                raise FileRefused(f"{path} cannot be written: {error.strerror}") from error

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder of a file, opened, and the file's name in it."""
        *folders, name = self._names(path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            descriptor = os.open(self.root, flags)  # the kind's own choice, link or not
        except OSError as error:
            raise FileRefused(f"{self.root} cannot be opened: {error.strerror}") from error
        try:
            for folder in folders:
                below = _opened(path, folder, flags | os.O_NOFOLLOW, descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _names(self, path: str) -> list[str]:
        """The names from the folder down to the file."""
        if "\0" in path:
            raise FileRefused("a path has no NUL in it")
        if not path.startswith("/"):
            raise FileRefused(f"{path} is not absolute")
        names = path.split("/")[1:]
        if any(name in (".", "..") for name in names):
            raise FileRefused(f"{path} goes by '.' or '..'")
        names = [name for name in names if name]
        for folder in (self.root, self._real):
            root = [name for name in folder.split("/") if name]
            if names[: len(root)] == root and len(names) > len(root):
                return names[len(root) :]
        raise FileRefused(f"{path} is not in {self.root}")


def _opened(path: str, name: str, flags: int, folder: int, mode: int = 0o666) -> int:
    try:
        return os.open(name, flags, mode, dir_fd=folder)
    except OSError as error:
        with suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise FileRefused(f"{path} goes by a link, {name}") from None
        raise FileRefused(f"{path} cannot be opened: {error.strerror}") from error


def _check_plain(path: str, there: os.stat_result) -> None:
    if stat.S_ISLNK(there.st_mode):
        raise FileRefused(f"{path} is a link")
    if not stat.S_ISREG(there.st_mode):
        raise FileRefused(f"{path} is no plain file")
    if there.st_nlink > 1:
        raise FileRefused(f"{path} is a link: the file has another name, which may be anywhere")
