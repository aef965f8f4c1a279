"""The runtime's actors, a room each: its protocol, its core in plain values, its thin actor."""

if __name__ != "greenroom.actors":
    raise ImportError(
        f"import greenroom.actors, not {__name__}: under two names every message class exists twice"
    )
