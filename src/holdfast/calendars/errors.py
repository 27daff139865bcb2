"""Refusals of calendars."""

from holdfast.core.errors import Conflict, NotFound


class FeedNotFound(NotFound):
    """No such feed, a deleted one, or one whose owner may not read it any more: all alike to whoever has only the address."""

    code = "CALENDAR_FEED_NOT_FOUND"
    message = "There is no such calendar feed."


class TooManyFeeds(Conflict):
    """The user has as many feeds as one may have."""

    code = "TOO_MANY_CALENDAR_FEEDS"
    message = "You have as many calendar feeds as one may have: delete one that you do not use any more."
