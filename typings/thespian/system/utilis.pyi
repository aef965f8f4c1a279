from collections.abc import Callable
from typing import Any

def actualActorClass(actorClass: Any, sourceHashLoader: Callable[..., Any] | None = None) -> Any: ...
