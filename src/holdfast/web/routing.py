"""How routes are registered: the caller is known before the body is read; some operations have two paths."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from holdfast.web.access import Access


class Route(APIRoute):
    """A route that knows its caller before it reads the body: 401 and 403 come ahead of every 400.

    A path that some route has literally is that route's alone: `DELETE /bookings/my` is a wrong method (405), not the
    booking whose id is "my".
    """

    _literal_paths: ClassVar[set[str]] = set()

    def __init__(self, path: str, endpoint: Callable[..., Any], **route: Any) -> None:
        super().__init__(path, endpoint, **route)
        if not self.param_convertors:
            self._literal_paths.add(path)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Starlette's match, unless the path is another route's by the letter."""
        if self.param_convertors and scope["path"] in self._literal_paths:
            return Match.NONE, {}
        return super().matches(scope)

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
