"""Which of the places to die at are taken today; `ASSENT_KILLS` says it otherwise (`all`, or the number of a day)."""

from __future__ import annotations

import datetime as dt
import os

SEED = os.environ.get("ASSENT_KILLS") or str(dt.datetime.now(tz=dt.UTC).date().toordinal())
