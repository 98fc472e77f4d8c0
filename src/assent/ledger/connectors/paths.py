"""Where a written path leads: lexical, pure, and the same text for policy, the order and the record.

Nothing here looks at a disk. Collapsing `..` by the letter differs from what a kernel would do when a folder on the way
is a symbolic link; that is no gap, because the collapsed path is the one that policy judges *and* the one that is
carried. Whether it meets a link on the way is for the lane, which must not leave the workspace whatever it finds.
"""

from __future__ import annotations

import posixpath
import re

import msgspec

from assent.ledger.operations import Place
from assent.primitives.errors import Malformed

PATH_BYTES_MAX = 4_096

# Control characters, line and paragraph separators, and the marks by which a name reads backwards on a screen.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Spot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A path that was looked at: relative to the workspace and normalised when `inside`, else as it was written."""

    path: str
    inside: bool


def locate(written: str, place: Place) -> Spot:
    """Say where `written` leads. A relative path that climbs above the workspace is outside, even if it comes back.

    Raises:
        Malformed: `path_malformed` (empty, too long, or with characters nobody can see), `workspace_malformed`.
    """
    check_path(written)
    root = workspace_of(place)
    path = _beneath(root, normal(written)) if written.startswith("/") else posixpath.normpath(written)
    if not path or path == ".." or path.startswith("../"):
        return Spot(path=written, inside=False)
    return Spot(path=path, inside=True)


def inside(written: str, place: Place) -> str:
    """The path relative to the workspace.

    Raises:
        Malformed: `outside_workspace`, or as `locate`.
    """
    spot = locate(written, place)
    if not spot.inside:
        raise Malformed(
            "outside_workspace",
            f"`{written[:200]}` leads outside the workspace",
            hint="give a path relative to the workspace",
        )
    return spot.path


def check_path(written: str) -> None:
    """Accept a path that people and kernels read alike.

    Raises:
        Malformed: `path_malformed`.
    """
    if not written:
        raise Malformed("path_malformed", "the path is empty", hint="write `.` for the workspace itself")
    if _UNSEEN.search(written):
        raise Malformed("path_malformed", f"`{escaped(written)}` holds characters that cannot be seen in a path")
    if len(written.encode(errors="surrogatepass")) > PATH_BYTES_MAX:
        raise Malformed("path_malformed", f"the path is longer than {PATH_BYTES_MAX} bytes")


def workspace_of(place: Place) -> str:
    """The workspace as a normalised absolute path.

    Raises:
        Malformed: `workspace_malformed`.
    """
    if not place.workspace.startswith("/") or "\0" in place.workspace:
        raise Malformed("workspace_malformed", f"the workspace `{escaped(place.workspace)}` is not an absolute path")
    return normal(place.workspace)


def escaped(text: str) -> str:
    """The beginning of `text` in plain ASCII, fit to stand in a message."""
    return text[:200].encode("unicode_escape").decode("ascii")


def normal(path: str) -> str:
    """Normalise an absolute path. POSIX lets two leading slashes mean something else; here they mean one."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _beneath(root: str, path: str) -> str:
    """`path` relative to `root`, or empty when it lies elsewhere. Both are absolute and normalised."""
    if path == root:
        return "."
    start = root.rstrip("/") + "/"
    return path.removeprefix(start) if path.startswith(start) else ""
