"""The durable side of the runtime: one writer, one reader, one SQLite file."""

if __name__ != "greenroom.persistence":
    raise ImportError(
        f"import greenroom.persistence, not {__name__}: under two names every message class exists twice"
    )
