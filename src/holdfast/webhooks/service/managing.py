"""What admins do with webhooks."""

from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from holdfast import outbox
from holdfast.adapters.webhooks import Addresses, new_secret
from holdfast.core import clock
from holdfast.core.callers import Caller
from holdfast.core.ids import new_id
from holdfast.core.preconditions import check_if_match
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once
from holdfast.webhooks import queries, rules
from holdfast.webhooks.errors import DeliveryNotFound, TooManyWebhooks, WebhookDisabled, WebhookNotFound
from holdfast.webhooks.queries import NewDelivery
from holdfast.webhooks.rules import Delivery, Webhook
from holdfast.webhooks.service.disabling import cancel_pending
from holdfast.webhooks.service.enqueueing import enqueue_clearing, enqueue_deliveries


async def _locked(session: AsyncSession, webhook_id: UUID) -> Webhook:
    webhook = await queries.lock_webhook(session, webhook_id)
    if webhook is None:
        raise WebhookNotFound
    return webhook


@retry_aborted
async def create_webhook(
    db: Database,
    addresses: Addresses,
    *,
    url: str,
    types: list[str],
    description: str | None,
    enabled: bool,
    by: Caller,
) -> tuple[Webhook, str]:
    """A new webhook and its secret, which is not shown again. Raises UrlRefused, TypesUnknown, TooManyWebhooks."""
    rules.check_url(url, addresses)
    wanted, secret = rules.checked_types(types), new_secret()
    async with db.transaction() as session:
        if await queries.count_webhooks(session) >= rules.MAX_WEBHOOKS:
            raise TooManyWebhooks(details={"webhooks": rules.MAX_WEBHOOKS})
        webhook = await queries.insert_webhook(
            session,
            url=url,
            types=wanted,
            description=description,
            enabled=enabled,
            secret=secret,
            created_by=by.user_id,
        )
        await outbox.enqueue(session, "webhook.created", webhook.id, by=by, after=webhook.as_json())
    return webhook, secret


async def get_webhook(db: Database, webhook_id: UUID) -> Webhook:
    """One webhook. Raises WebhookNotFound."""
    webhook = await queries.find_webhook(db, webhook_id)
    if webhook is None:
        raise WebhookNotFound
    return webhook


async def list_webhooks(db: Database, *, offset: int, limit: int) -> tuple[list[Webhook], int]:
    """One page of webhooks, newest first, and how many there are."""
    return await queries.list_webhooks(db, offset=offset, limit=limit)


@retry_aborted
async def change_webhook(
    db: Database,
    addresses: Addresses,
    *,
    webhook_id: UUID,
    changes: dict[str, Any],
    if_match: str | None,
    by: Caller,
    once: Once,
) -> Webhook:
    """Change what is named. Disabling cancels what is pending. Raises UrlRefused, TypesUnknown, WebhookNotFound, Stale."""
    if "url" in changes:
        rules.check_url(changes["url"], addresses)
    if "types" in changes:
        changes = {**changes, "types": rules.checked_types(changes["types"])}
    async with once.transaction(db) as session:
        before = await _locked(session, webhook_id)
        check_if_match(if_match, before.etag, before.as_json())
        values = {name: getattr(before, name) for name in ("url", "types", "description", "enabled")}
        if values | changes == values:
            await once.keep(session, before)
            return before
        webhook = await queries.change_webhook(session, webhook_id, **(values | changes))
        if before.enabled and not webhook.enabled:
            await cancel_pending(session, webhook_id)
        await outbox.enqueue(session, "webhook.updated", webhook.id, by=by, before=before.as_json(), after=webhook.as_json())
        await once.keep(session, webhook)
    return webhook


@retry_aborted
async def delete_webhook(db: Database, *, webhook_id: UUID, if_match: str | None, by: Caller, once: Once) -> None:
    """Nothing is sent any more, and its deliveries go too. Raises WebhookNotFound, Stale."""
    async with once.transaction(db) as session:
        webhook = await _locked(session, webhook_id)
        check_if_match(if_match, webhook.etag, webhook.as_json())
        await queries.mark_deleted(session, webhook_id)
        await enqueue_clearing(session, webhook_id)
        await outbox.enqueue(session, "webhook.deleted", webhook.id, by=by, before=webhook.as_json())
        await once.keep(session, None)


@retry_aborted
async def rotate_secret(db: Database, *, webhook_id: UUID, by: Caller) -> tuple[Webhook, str]:
    """A new secret, which is not shown again; the one before signs too for a day. Raises WebhookNotFound."""
    secret = new_secret()
    async with db.transaction() as session:
        before = await _locked(session, webhook_id)
        webhook = await queries.rotate_secret(session, webhook_id, secret, rules.BOTH_SECRETS_FOR)
        await outbox.enqueue(session, "webhook.rotated", webhook.id, by=by, before=before.as_json(), after=webhook.as_json())
    return webhook, secret


async def list_deliveries(
    db: Database, *, webhook_id: UUID, status: str | None, offset: int, limit: int
) -> tuple[list[Delivery], int]:
    """One page of a webhook's deliveries, newest first, and how many there are. Raises WebhookNotFound."""
    await get_webhook(db, webhook_id)
    return await queries.list_deliveries(db, webhook_id, status=status, offset=offset, limit=limit)


async def get_delivery(db: Database, *, webhook_id: UUID, delivery_id: UUID) -> tuple[Delivery, str]:
    """A delivery and the body that is sent. Raises WebhookNotFound, DeliveryNotFound."""
    await get_webhook(db, webhook_id)
    found = await queries.find_delivery(db, webhook_id, delivery_id)
    if found is None:
        raise DeliveryNotFound
    return found


@retry_aborted
async def send_test(db: Database, *, webhook_id: UUID, once: Once) -> Delivery:
    """A message that says nothing, sent once, to a disabled webhook too, and without consequences. Raises WebhookNotFound."""
    delivery_id, message_id = new_id(), str(new_id())
    body = {
        "id": message_id,
        "type": rules.TEST,
        "occurredAt": clock.instant_text(clock.now()),
        "data": {"webhookId": str(webhook_id)},
    }
    async with once.transaction(db) as session:
        await _locked(session, webhook_id)
        test = NewDelivery(
            id=delivery_id,
            webhook_id=webhook_id,
            message_id=message_id,
            number=0,
            # Its own subject: it waits for nothing.
            subject_id=delivery_id,
            type=rules.TEST,
            body=orjson.dumps(body).decode(),
        )
        await queries.add_deliveries(session, [test])
        await enqueue_deliveries(session, [(delivery_id, webhook_id, None)])
        found = await queries.find_delivery(session, webhook_id, delivery_id)
        if found is None:
            raise DeliveryNotFound
        await once.keep(session, found[0])
    return found[0]


@retry_aborted
async def redeliver(db: Database, *, webhook_id: UUID, delivery_id: UUID, once: Once) -> Delivery:
    """Send a delivery again, as soon as its turn comes. Raises WebhookNotFound, DeliveryNotFound, WebhookDisabled."""
    async with once.transaction(db) as session:
        webhook = await _locked(session, webhook_id)
        if not webhook.enabled:
            raise WebhookDisabled
        delivery = await queries.deliver_again(session, webhook_id, delivery_id)
        if delivery is None:
            raise DeliveryNotFound
        # A key of its own: the job that waits for the next attempt may be hours away, that of the last may just be ending.
        because = f"again:{delivery.attempts}"
        await enqueue_deliveries(session, [(delivery_id, webhook_id, None)], because=because)
        await once.keep(session, delivery)
    return delivery
