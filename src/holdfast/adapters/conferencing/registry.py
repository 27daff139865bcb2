"""Which provider the settings name: one of ours, or a plug-in's from the entry-point group `holdfast.conferencing`.

A plug-in's entry point is a callable that takes the Settings and returns a ConferenceProvider.
"""

from collections.abc import Callable
from importlib.metadata import entry_points

from holdfast.adapters.conferencing.http import HttpProvider
from holdfast.adapters.conferencing.offline import JitsiProvider, MockProvider
from holdfast.adapters.conferencing.protocol import ConferenceProvider
from holdfast.core.settings import Settings

GROUP = "holdfast.conferencing"


class ProviderUnknown(Exception):
    """No provider has this name, or it cannot work with these settings; the message says which there are."""


def _http(settings: Settings) -> ConferenceProvider:
    return HttpProvider(settings.conference_url or "", settings.conference_secret)


_OURS: dict[str, Callable[[Settings], ConferenceProvider]] = {
    "mock": lambda _settings: MockProvider(),
    "jitsi": lambda settings: JitsiProvider(settings.conference_url),
    "http": _http,
}


def make_provider(settings: Settings) -> ConferenceProvider:
    """The provider named by `HOLDFAST_CONFERENCE_PROVIDER`. Raises ProviderUnknown."""
    name = settings.conference_provider
    factories = dict(_OURS)
    plugins = {point.name: point for point in entry_points(group=GROUP)}
    if name not in factories and name in plugins:
        factories[name] = plugins[name].load()
    if name not in factories:
        known = ", ".join(sorted({*factories, *plugins}))
        msg = f"HOLDFAST_CONFERENCE_PROVIDER names no provider; there are: {known}"
        raise ProviderUnknown(msg)
    try:
        return factories[name](settings)
    except ValueError as error:
        raise ProviderUnknown(str(error)) from error
