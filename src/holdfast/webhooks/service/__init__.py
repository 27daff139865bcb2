"""The use cases of webhooks: what admins do with them, and what follows a message."""

from holdfast.webhooks.service.delivering import Lanes, kinds
from holdfast.webhooks.service.enqueueing import CLEARING, KIND
from holdfast.webhooks.service.following import follow
from holdfast.webhooks.service.managing import (
    change_webhook,
    create_webhook,
    delete_webhook,
    get_delivery,
    get_webhook,
    list_deliveries,
    list_webhooks,
    redeliver,
    rotate_secret,
    send_test,
)
from holdfast.webhooks.service.tidying import periodic

__all__ = [
    "CLEARING",
    "KIND",
    "Lanes",
    "change_webhook",
    "create_webhook",
    "delete_webhook",
    "follow",
    "get_delivery",
    "get_webhook",
    "kinds",
    "list_deliveries",
    "list_webhooks",
    "periodic",
    "redeliver",
    "rotate_secret",
    "send_test",
]
