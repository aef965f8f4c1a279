"""Texts of errors, in a form that can be stored."""

MOST_CHARACTERS = 65_536
"""Characters of an error that are kept."""


def storable_text(text: str) -> str:
    """`text` as it can be stored and told: cut if it is huge, and halves of characters spelt out."""
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode()
