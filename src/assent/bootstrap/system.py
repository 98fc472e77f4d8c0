"""The real clock and real entropy."""

from __future__ import annotations

import os
import threading
import time


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class SystemEntropy:
    """Bytes from the kernel, drawn a page at a time: a system call for every salt would cost more than the salt's use.

    Bytes are handed out once. Safe from several threads; not for use after a fork, and Assent never forks this process.
    """

    PAGE_BYTES = 4096

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._page = b""
        self._used = 0

    def __call__(self, count: int, /) -> bytes:
        if count > self.PAGE_BYTES:
            return os.urandom(count)
        with self._lock:
            start = self._used
            if start + count > len(self._page):
                self._page, start = os.urandom(self.PAGE_BYTES), 0
            self._used = start + count
            return self._page[start : self._used]
