"""Why a mechanism does not work on this machine, and what would make it: the host's settings that are the usual
causes, read when something failed."""

from __future__ import annotations

from pathlib import Path

import msgspec

_NEEDS_NAMESPACES = ("namespaces", "bubblewrap", "container", "user-kernel")


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """A setting of the kernel's which, when it has `value`, forbids user namespaces."""

    path: str
    value: str
    reason: str
    fix: str


SIGNS = (
    Sign(
        path="/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        value="1",
        reason="AppArmor restricts user namespaces (the default of Ubuntu 24.04 and later)",
        fix="give this interpreter an AppArmor profile with `userns,`, as the page on improving confinement shows; or,"
        " for the whole machine, set kernel.apparmor_restrict_unprivileged_userns to 0",
    ),
    Sign(
        path="/proc/sys/kernel/unprivileged_userns_clone",
        value="0",
        reason="this kernel refuses user namespaces to ordinary users",
        fix="set kernel.unprivileged_userns_clone to 1",
    ),
    Sign(
        path="/proc/sys/user/max_user_namespaces",
        value="0",
        reason="no user namespaces may be made here",
        fix="set user.max_user_namespaces above 0",
    ),
)
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
_IN_CONTAINER = Sign(
    path="", value="", reason="this is a container, which forbids nested namespaces",
    fix="run it with a seccomp profile that allows clone, unshare and mount, and without masked paths in /proc; or rely"
    " on `confined`, which needs no namespaces",
)  # fmt: skip


def explained(name: str, reason: str, hint: str, *, root: Path = Path("/")) -> tuple[str, str]:
    """The reason with the setting behind it when there is one, and what to do. `root`: where /proc lies."""
    sign = next((one for one in SIGNS if _reads(root, one)), None) if name in _NEEDS_NAMESPACES else None
    if sign is None and name == "namespaces" and not hint and _in_container(root):
        sign = _IN_CONTAINER
    if sign is None:
        return reason, hint
    return f"{reason}; {sign.reason}", sign.fix


def _reads(root: Path, sign: Sign) -> bool:
    try:
        return (root / sign.path.lstrip("/")).read_text(encoding="ascii").strip() == sign.value
    except OSError:
        return False


def _in_container(root: Path) -> bool:
    return any((root / mark.lstrip("/")).exists() for mark in _CONTAINER_MARKS)
