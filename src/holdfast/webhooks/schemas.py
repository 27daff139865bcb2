"""What the webhook routes take and give."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue, StrictBool, WithJsonSchema, model_validator

from holdfast.messages import TYPES
from holdfast.web.fields import Body, Text
from holdfast.web.openapi import PaginationAnswer

Url = Annotated[str, Text(2_000, blank=False), Field(description="https://, without user name and fragment.")]
#: Which there are is asked of the use case, whose refusal lists them.
Type = Annotated[str, Text(100), WithJsonSchema({"type": "string", "enum": sorted(TYPES)})]
Types = Annotated[list[Type], Field(max_length=100, description="Which messages; none: all of them.")]
Description = Annotated[str, Text(500)]
Status = Literal["pending", "delivered", "failed", "cancelled"]
_INSTANT: dict[str, JsonValue] = {"format": "date-time"}


class NewWebhook(Body):
    """A webhook to be."""

    model_config = Body.model_config | {
        "json_schema_extra": {
            "examples": [{"url": "https://example.com/hooks/holdfast", "types": ["booking.created", "booking.cancelled"]}]
        }
    }

    url: Url
    types: Types = Field(default_factory=list)
    description: Description | None = None
    enabled: StrictBool = True


class WebhookChange(Body):
    """What is to change; what is not named stays. `enabled: true` starts a disabled one again, with what comes from then on."""

    url: Url | None = None
    types: Types | None = None
    description: Description | None = None
    enabled: StrictBool | None = None

    @model_validator(mode="after")
    def _needed_stay(self) -> "WebhookChange":
        for needed in ("url", "enabled"):
            if needed in self.model_fields_set and getattr(self, needed) is None:
                msg = f"{needed} cannot be taken away"
                raise ValueError(msg)
        return self

    def values(self) -> dict[str, Any]:
        """The named fields by column name."""
        values = self.model_dump(exclude_unset=True)
        if values.get("types", ()) is None:
            values["types"] = []
        return values


class WebhookShape(BaseModel):
    """A webhook. `failingSince`: nothing has come through since then."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    url: str
    types: list[str]
    description: str | None
    enabled: bool
    disabledReason: str | None
    failingSince: str | None = Field(json_schema_extra=_INSTANT)
    previousSecretUntil: str | None = Field(json_schema_extra=_INSTANT)
    createdAt: str = Field(json_schema_extra=_INSTANT)


class WebhookAnswer(BaseModel):
    """One webhook."""

    webhook: WebhookShape


class WebhookSecretAnswer(BaseModel):
    """A webhook with its signing secret (Standard Webhooks, `whsec_...`), shown this once."""

    webhook: WebhookShape
    secret: str


class WebhooksAnswer(BaseModel):
    """A page of webhooks."""

    webhooks: list[WebhookShape]
    pagination: PaginationAnswer


class DeliveryShape(BaseModel):
    """One message for one webhook. `nextAttemptAt` is null while it waits for its turn, and when it has ended."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    webhookId: str = Field(json_schema_extra={"format": "uuid"})
    messageId: str
    type: str
    subjectId: str = Field(json_schema_extra={"format": "uuid"})
    status: Status
    attempts: int
    lastAttemptAt: str | None = Field(json_schema_extra=_INSTANT)
    nextAttemptAt: str | None = Field(json_schema_extra=_INSTANT)
    responseStatus: int | None
    responseMilliseconds: int | None
    error: str | None
    createdAt: str = Field(json_schema_extra=_INSTANT)
    endedAt: str | None = Field(json_schema_extra=_INSTANT)


class DeliveryWithBody(DeliveryShape):
    """A delivery with what is sent."""

    body: dict[str, Any]


class DeliveryAnswer(BaseModel):
    """One delivery."""

    delivery: DeliveryShape


class DeliveryWithBodyAnswer(BaseModel):
    """One delivery, with what is sent."""

    delivery: DeliveryWithBody


class DeliveriesAnswer(BaseModel):
    """A page of deliveries."""

    deliveries: list[DeliveryShape]
    pagination: PaginationAnswer
