"""Conference links: a provider makes a link for a booking, named by the booking's id."""

from holdfast.adapters.conferencing.http import HttpProvider
from holdfast.adapters.conferencing.offline import JitsiProvider, MockProvider
from holdfast.adapters.conferencing.protocol import (
    DEADLINE_SECONDS,
    ConferenceFailure,
    ConferenceProvider,
    ConferenceRefused,
    ConferenceUnavailable,
    Meeting,
)
from holdfast.adapters.conferencing.registry import ProviderUnknown, make_provider

__all__ = [
    "DEADLINE_SECONDS",
    "ConferenceFailure",
    "ConferenceProvider",
    "ConferenceRefused",
    "ConferenceUnavailable",
    "HttpProvider",
    "JitsiProvider",
    "Meeting",
    "MockProvider",
    "ProviderUnknown",
    "make_provider",
]
