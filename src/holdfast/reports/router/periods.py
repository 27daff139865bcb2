"""The period of a report, out of `from`, `to` and `tz`."""

from typing import Annotated

from fastapi import Depends, Query

from holdfast.reports.rules import MAX_DAYS, Period
from holdfast.web.fields import Date, TimeZone


async def _period(
    first: Annotated[Date, Query(alias="from", description="The first day.")],
    last: Annotated[Date, Query(alias="to", description=f"The last day, which counts too; {MAX_DAYS} days at most.")],
    tz: Annotated[TimeZone, Query(description="Whose days: an IANA time zone.")] = "UTC",
) -> Period:
    return Period(first, last, tz)


PeriodDep = Annotated[Period, Depends(_period)]
