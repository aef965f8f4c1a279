"""Other systems at the same work, each in its own environment: `run` asks, a script a peer answers."""
