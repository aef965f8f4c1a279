"""The dashboard's files, read once when the server starts: no path of a request ever reaches the disk."""

import mimetypes
from collections.abc import Mapping
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

from msgspec import Struct

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Only this server's own scripts and styles, none of them inline; nothing may frame the page, and no text
can be made into HTML by it (browsers that know Trusted Types refuse)."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class Asset(Struct, frozen=True):
    """A file as it is sent."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    etag: bytes


def read_assets() -> Mapping[str, Asset]:
    """The files of `dashboard/` by the path of their address; `index.html` is "/" as well."""
    found: dict[str, Asset] = {}
    _collect(files(__package__) / "dashboard", "", found)
    found["/"] = found["/index.html"]
    return found


def _collect(folder: Traversable, at: str, found: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.name.startswith((".", "__")) or entry.name.endswith(".py"):
            continue
        if entry.is_dir():
            _collect(entry, f"{at}/{entry.name}", found)
        else:
            found[f"{at}/{entry.name}"] = _asset(entry.name, entry.read_bytes())


def _asset(name: str, body: bytes) -> Asset:
    suffix = f".{name.rpartition('.')[2]}"
    media_type = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    etag = b'"%s"' % blake2b(body, digest_size=12).hexdigest().encode()
    headers = (
        (b"content-type", media_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"etag", etag),
        (b"cache-control", b"no-cache"),
        (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
    )
    return Asset(body, headers, etag)
