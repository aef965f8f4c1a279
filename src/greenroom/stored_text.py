"""Texts of errors, in a form that can be stored."""

MOST_TEXT = 65_536
"""Characters of an error that are kept."""


def tellable(text: str) -> str:
    """`text` as it can be stored and told: cut if it is huge, and halves of characters spelt out."""
    if len(text) > MOST_TEXT:
        text = f"{text[:MOST_TEXT]}… ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode()
