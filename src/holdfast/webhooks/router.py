"""The routes of webhooks (api.md section 8)."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from holdfast.adapters.webhooks import Addresses
from holdfast.core.answers import Answer, answer
from holdfast.web.access import AdminCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, reads_one, refusals
from holdfast.web.paging import PageDep, page_answer
from holdfast.web.preconditions import IfMatch, conditional
from holdfast.web.routing import Route
from holdfast.web.state import State, StateDep
from holdfast.webhooks import schemas, service
from holdfast.webhooks.rules import Delivery, Webhook

router = APIRouter(route_class=Route, tags=["webhooks"])

Wanted = Annotated[schemas.Status | None, Query(alias="status", description="Only deliveries that stand so.")]


def _addresses(state: State) -> Addresses:
    return Addresses(loopback=state.settings.webhook_loopback)


def _shown(webhook: Webhook) -> Answer:
    return answer({"webhook": webhook.as_json()}, etag=webhook.etag)


def _delivery_accepted(delivery: Delivery) -> Answer:
    location = f"/webhooks/{delivery.webhook_id}/deliveries/{delivery.id}"
    return answer({"delivery": delivery.as_json()}, status=202, location=location)


# No Idempotency-Key here and at a rotation: an answer that is kept to be replayed would be a secret that is kept.
@router.post(
    "/webhooks",
    operation_id="createWebhook",
    summary="Send messages to a URL",
    responses=reads(schemas.WebhookSecretAnswer, 400, 403, 409, status=201),
    status_code=201,
)
async def create_webhook(body: schemas.NewWebhook, caller: AdminCaller, state: StateDep) -> Response:
    """For admins. The signing secret is shown this once; an `Idempotency-Key` is ignored.

    Each message is a POST by the Standard Webhooks specification: `webhook-id` is the message's id, the same over all
    attempts; `webhook-timestamp`; `webhook-signature`. 2xx within ten seconds is a delivery, 410 disables the webhook, all
    else is tried again for three days. Messages of one booking come in order; some may come twice.
    """
    webhook, secret = await service.create_webhook(
        state.db,
        _addresses(state),
        url=body.url,
        types=body.types,
        description=body.description,
        enabled=body.enabled,
        by=caller,
    )
    shown = {"webhook": webhook.as_json(), "secret": secret}
    return send(answer(shown, status=201, location=f"/webhooks/{webhook.id}", etag=webhook.etag))


@router.get("/webhooks", operation_id="listWebhooks", summary="All webhooks", responses=reads(schemas.WebhooksAnswer, 400, 403))
async def list_webhooks(request: Request, _admin: AdminCaller, state: StateDep, page: PageDep) -> Response:
    """Newest first, without their secrets."""
    webhooks, total = await service.list_webhooks(state.db, offset=page.offset, limit=page.size)
    return send(page_answer(request, "webhooks", [webhook.as_json() for webhook in webhooks], page, total))


@router.get(
    "/webhooks/{webhook_id}",
    operation_id="getWebhook",
    summary="One webhook",
    responses=reads_one(schemas.WebhookAnswer, 400, 403, 404),
)
async def get_webhook(webhook_id: PathId, request: Request, _admin: AdminCaller, state: StateDep) -> Response:
    """Without its secret."""
    return conditional(request, _shown(await service.get_webhook(state.db, webhook_id)))


@router.patch(
    "/webhooks/{webhook_id}",
    operation_id="changeWebhook",
    summary="Change, disable or enable a webhook",
    responses=changes(schemas.WebhookAnswer, 404, 412),
)
async def change_webhook(
    webhook_id: PathId,
    body: schemas.WebhookChange,
    caller: AdminCaller,
    state: StateDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """Disabling cancels what is pending, and nothing is kept for it meanwhile: GET /changes tells what was missed."""
    webhook = await service.change_webhook(
        state.db,
        _addresses(state),
        webhook_id=webhook_id,
        changes=body.values(),
        if_match=if_match,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(webhook))


@router.delete(
    "/webhooks/{webhook_id}",
    operation_id="deleteWebhook",
    summary="Delete a webhook",
    responses={204: {"description": "Deleted."}, **refusals(400, 401, 403, 404, 409, 412, 422)},
    status_code=204,
)
async def delete_webhook(
    webhook_id: PathId, caller: AdminCaller, state: StateDep, once: OnceDep, if_match: IfMatch = None
) -> Response:
    """With all its deliveries, pending ones too."""

    def deleted(_nothing: None) -> Answer:
        return Answer(204)

    await service.delete_webhook(state.db, webhook_id=webhook_id, if_match=if_match, by=caller, once=once.answering(deleted))
    return send(deleted(None))


@router.post(
    "/webhooks/{webhook_id}/rotate-secret",
    operation_id="rotateWebhookSecret",
    summary="Give a webhook another secret",
    responses=reads(schemas.WebhookSecretAnswer, 400, 403, 404),
)
async def rotate_secret(webhook_id: PathId, caller: AdminCaller, state: StateDep) -> Response:
    """The new one is shown this once; for 24 hours the old one signs too. An `Idempotency-Key` is ignored."""
    webhook, secret = await service.rotate_secret(state.db, webhook_id=webhook_id, by=caller)
    return send(answer({"webhook": webhook.as_json(), "secret": secret}, etag=webhook.etag))


@router.post(
    "/webhooks/{webhook_id}/test",
    operation_id="testWebhook",
    summary="Send a test message",
    responses=changes(schemas.DeliveryAnswer, 404, status=202),
    status_code=202,
)
async def send_test(webhook_id: PathId, _admin: AdminCaller, state: StateDep, once: OnceDep) -> Response:
    """Type `webhook.test`; tried once, also where the webhook is disabled. `Location` tells what came of it."""
    delivery = await service.send_test(state.db, webhook_id=webhook_id, once=once.answering(_delivery_accepted))
    return send(_delivery_accepted(delivery))


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    operation_id="listWebhookDeliveries",
    summary="What was sent, and what came of it",
    responses=reads(schemas.DeliveriesAnswer, 400, 403, 404),
)
async def list_deliveries(
    webhook_id: PathId, request: Request, _admin: AdminCaller, state: StateDep, page: PageDep, status: Wanted = None
) -> Response:
    """Newest first. Ended ones are kept for 30 days."""
    deliveries, total = await service.list_deliveries(
        state.db, webhook_id=webhook_id, status=status, offset=page.offset, limit=page.size
    )
    return send(page_answer(request, "deliveries", [delivery.as_json() for delivery in deliveries], page, total))


@router.get(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}",
    operation_id="getWebhookDelivery",
    summary="One delivery, with its body",
    responses=reads(schemas.DeliveryWithBodyAnswer, 400, 403, 404),
)
async def get_delivery(webhook_id: PathId, delivery_id: PathId, _admin: AdminCaller, state: StateDep) -> Response:
    """What is sent, byte for byte but for white space."""
    delivery, body = await service.get_delivery(state.db, webhook_id=webhook_id, delivery_id=delivery_id)
    return send(answer({"delivery": {**delivery.as_json(), "body": orjson.loads(body)}}))


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    operation_id="redeliverWebhook",
    summary="Send a delivery again",
    responses=changes(schemas.DeliveryAnswer, 404, status=202),
    status_code=202,
)
async def redeliver(webhook_id: PathId, delivery_id: PathId, _admin: AdminCaller, state: StateDep, once: OnceDep) -> Response:
    """With the same `webhook-id`. An ended one is tried anew, a pending one at once. 409 `WEBHOOK_DISABLED`."""
    delivery = await service.redeliver(
        state.db, webhook_id=webhook_id, delivery_id=delivery_id, once=once.answering(_delivery_accepted)
    )
    return send(_delivery_accepted(delivery))
