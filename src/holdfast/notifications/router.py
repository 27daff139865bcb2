"""The development mailbox's pages: plain HTML, without scripts. In production, or with a mail server, there are none."""

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from holdfast.core.errors import NotFound
from holdfast.notifications import service
from holdfast.notifications.rules import mail_page, mailbox_page
from holdfast.web.fields import PathId
from holdfast.web.routing import Route
from holdfast.web.state import State, StateDep

router = APIRouter(route_class=Route, include_in_schema=False)

#: Whatever a mail holds: nothing is loaded but our own style, nothing runs, nobody puts it in a frame.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def _check(state: State) -> None:
    if not state.settings.development or state.settings.smtp_url is not None:
        raise NotFound


@router.get("/dev/mails")
async def list_mails(state: StateDep) -> HTMLResponse:
    """The latest mails."""
    _check(state)
    return HTMLResponse(mailbox_page(await service.list_mails(state.db)), headers=_HEADERS)


@router.get("/dev/mails/{mail_id}")
async def get_mail(mail_id: PathId, state: StateDep) -> HTMLResponse:
    """One mail with its parts."""
    _check(state)
    return HTMLResponse(mail_page(await service.get_mail(state.db, mail_id)), headers=_HEADERS)
