"""Runs over HTTP: how they are doing, and waiting for their end."""

from contextlib import suppress
from typing import Annotated, Any

from litestar import get
from litestar.params import Parameter

from .. import RunNotFound
from .openapi import problems
from .requests import ApiRequest, given
from .views import RunView

LONGEST_WAIT_SECONDS = 60.0


@get(
    "/api/runs/{run_id:str}",
    tags=["runs"],
    summary="Look at a run, or wait for its end",
    operation_id="get_run",
    responses=problems(404),
)
async def get_run(
    request: ApiRequest,
    run_id: Annotated[str, Parameter(description="The run's id")],
    wait: Annotated[
        float,
        Parameter(
            ge=0,
            le=LONGEST_WAIT_SECONDS,
            description="Seconds to wait for the run's end before it is told as it is",
        ),
    ] = 0.0,
) -> RunView:
    """The run as it is now, or once it has ended. A wait that was not long enough is no error."""
    service, named = request.service, given(run_id)
    if not named.isprintable() or not 0 < len(named) <= 200:
        raise RunNotFound(named)  # no run can have this id
    run = await service.runtime.run(named)
    if not request.access.reaches(run.path):
        raise RunNotFound(named)  # who may not see it does not learn that it is there
    if wait:
        with service.streams.one_more(request.access.name), suppress(TimeoutError):
            await run.outcome(wait)
    return await RunView.of(await run.info())


HANDLERS: list[Any] = [get_run]
