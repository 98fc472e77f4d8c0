"""What kernel answers here: the same questions asked on the host and inside, so that the answers can be compared.

A user-space kernel betrays itself by its own version and its own start-up messages, and by calls that the host knows
and it does not. Runs on both sides.
"""

from __future__ import annotations

import ctypes
import os

from . import syscalls

# Calls a host with our other needs has, with arguments that do nothing anywhere: answered EBADF where they exist.
_HOST_ONLY = (("process_mrelease", 448), ("landlock_restrict_self", 446))
_LOG_READ_ALL, _LOG_BYTES = 3, 65_536
_SYSLOG = {"x86_64": 103, "aarch64": 116}
_ENOSYS = 38
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def answers() -> dict[str, str]:
    """What this kernel says of itself.

    `release`, `boot` (the boot id), `missing` (host-only calls that are not there), `log` (whose messages it holds),
    and `variables`: how many this process inherited beside HOME.
    """
    return {
        "release": os.uname().release,
        "boot": _boot_id() or "none",
        "missing": ",".join(name for name, number in _HOST_ONLY if _is_missing(number)) or "none",
        "log": "gvisor" if b"gVisor" in _log() else "other",
        "variables": str(len(set(os.environ) - {"HOME", "LC_CTYPE"})),
    }


def word() -> bytes:
    """The answers as an `L` word."""
    return b"L " + " ".join(f"{name}={value}" for name, value in answers().items()).encode()[:1000]


def read_word(text: str) -> dict[str, str]:
    """The answers out of the text of an `L` word."""
    return dict(one.partition("=")[::2] for one in text.split())


def _is_missing(number: int) -> bool:
    failed: bool = _libc.syscall(ctypes.c_long(number), ctypes.c_long(-1), ctypes.c_long(0)) == -1
    return failed and ctypes.get_errno() == _ENOSYS


def _log() -> bytes:
    buffer = ctypes.create_string_buffer(_LOG_BYTES)
    count = _libc.syscall(ctypes.c_long(_SYSLOG[syscalls.MACHINE]), _LOG_READ_ALL, buffer, _LOG_BYTES)
    return buffer.raw[: max(0, count)]


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
