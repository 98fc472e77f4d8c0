"""Moments as HTTP writes them: the one form that senders use (RFC 9110 section 5.6.7). Pure."""

from __future__ import annotations

import calendar
import re

_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4})"
    r" (\d\d):(\d\d):(\d\d) GMT\Z",
    re.ASCII,
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def http_date_ms(text: str) -> int | None:
    """Milliseconds since the epoch, or None when it is no such moment."""
    found = _DATE.match(text)
    if found is None:
        return None
    day, month, year, hour, minute, second = found.groups()
    moment = (int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), 0, 0, 0)
    try:
        return calendar.timegm(moment) * 1000
    except ValueError:  # a year before the first
        return None
