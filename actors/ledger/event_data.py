"""The data of an event, as JSON."""

import msgspec

from ...stored_text import storable_text


def event_data(**data: object) -> bytes:
    """Texts of users may hold halves of characters, which are escaped."""
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:  # a text of somebody's holds halves of characters
        return msgspec.json.encode(
            {k: storable_text(v) if isinstance(v, str) else v for k, v in data.items()}
        )
