"""Lists that can grow: `page` and `pageSize`, the `Link` header (RFC 8288), and `cursor` for walking very long ones."""

from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request

from holdfast.core.answers import Answer, answer

_MAX_OFFSET = (1 << 62) - 1
#: The largest integer that every JSON reader can read (RFC 8259 section 6).
_MAX_PAGE = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted. `offset` never overflows the database's integers."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """Rows ahead of the page."""
        return min((self.number - 1) * self.size, _MAX_OFFSET)


async def _page(
    page: Annotated[int, Query(ge=1, le=_MAX_PAGE, description="1 is the first page.")] = 1,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100, description="Rows on a page.")] = 20,
) -> Page:
    return Page(page, page_size)


async def _optional_page(
    page: Annotated[int | None, Query(ge=1, le=_MAX_PAGE, description="Without it the list comes whole.")] = None,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100, description="Rows on a page.")] = 20,
) -> Page | None:
    return None if page is None else Page(page, page_size)


PageDep = Annotated[Page, Depends(_page)]
OptionalPageDep = Annotated[Page | None, Depends(_optional_page)]


def _link(request: Request, relation: str, **changed: object) -> str:
    query = [(name, value) for name, value in request.query_params.multi_items() if name not in changed]
    query += [(name, str(value)) for name, value in changed.items()]
    return f'<{request.url.path}?{urlencode(query)}>; rel="{relation}"'


def page_answer(request: Request, name: str, items: list[Any], page: Page, total: int) -> Answer:
    """`{name: items, pagination: {...}}` with links to the first, previous, next and last page."""
    last = max(1, -(-total // page.size))
    links = [_link(request, "first", page=1), _link(request, "last", page=last)]
    if 1 < page.number <= last + 1:
        links.append(_link(request, "prev", page=page.number - 1))
    if page.number < last:
        links.append(_link(request, "next", page=page.number + 1))
    shaped = answer(
        {name: items, "pagination": {"page": page.number, "pageSize": page.size, "total": total}},
    )
    return Answer(shaped.status, shaped.body, {"Link": ", ".join(links)})


def cursor_answer(request: Request, name: str, items: list[Any], next_cursor: str | None) -> Answer:
    """`{name: items, nextCursor}`: null at the end; counting and offsets would cost more with each page."""
    shaped = answer({name: items, "nextCursor": next_cursor})
    headers = {"Link": _link(request, "next", cursor=next_cursor)} if next_cursor else {}
    return Answer(shaped.status, shaped.body, headers)
