"""How routes are registered: the caller is known before the body is read; some operations have two paths."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from holdfast.web.access import Access


class Route(APIRoute):
    """A route that knows its caller before it reads the body: 401 and 403 come ahead of every 400."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with the route's Access in front."""
        handler = super().get_route_handler()
        gates = [part.call for part in self.dependant.dependencies if isinstance(part.call, Access)]
        if not gates:
            return handler
        gate = gates[0]

        async def guarded(request: Request) -> Response:
            await gate(request)
            return await handler(request)

        return guarded


def at_both_paths(
    router: APIRouter, path: str, contract_path: str, *, method: str, operation_id: str, **route: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register one operation at its own path and at the room contract's."""

    def register(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        router.add_api_route(path, endpoint, methods=[method], operation_id=operation_id, **route)
        router.add_api_route(contract_path, endpoint, methods=[method], operation_id=f"{operation_id}AtContractPath", **route)
        return endpoint

    return register
