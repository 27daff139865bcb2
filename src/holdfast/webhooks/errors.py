"""Refusals of webhooks."""

from holdfast.core.errors import Conflict, Invalid, NotFound


class WebhookNotFound(NotFound):
    """No such webhook, or a deleted one."""

    code = "WEBHOOK_NOT_FOUND"
    message = "There is no such webhook."


class DeliveryNotFound(NotFound):
    """No such delivery of this webhook, or one that was tidied away."""

    code = "DELIVERY_NOT_FOUND"
    message = "This webhook has no such delivery; ended ones are kept for 30 days."


class UrlRefused(Invalid):
    """Webhooks do not go there; the message says why."""

    message = "A webhook cannot have this URL."


class TypesUnknown(Invalid):
    """Not every type that was named is one; `details` lists those that there are."""

    message = "These are not all types of messages: choose from the list, or name none to get all."


class TooManyWebhooks(Conflict):
    """Each one costs a row per message, in the relay's transaction."""

    code = "TOO_MANY_WEBHOOKS"
    message = "There are as many webhooks as there may be: delete one first."


class WebhookDisabled(Conflict):
    """Nothing is sent to a disabled webhook, but for tests."""

    code = "WEBHOOK_DISABLED"
    message = "This webhook is disabled: enable it first. What it missed meanwhile is in GET /changes."
