"""The grounds: the folder in which the story plays, and what is in it before it starts.

assent.toml            settings, so that every command works in the folder afterwards
policy/demo.cedar      what the helper may do; the release server's port is written into it
workspace/             a small project with a change log and tests
letters.json           what the model of the second act says
photos/                somebody's photos: outside the workspace
verify_standalone.py   the verifier that needs nothing of Assent
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from itertools import count
from pathlib import Path

from assent.primitives.errors import Malformed, Unavailable

NAME = "assent-demo"
HOST_MARK = "@HOST@"
MATERIAL = {
    "assent.toml": "assent.toml",
    "policy/demo.cedar": "demo.cedar",
    "policy/demo_tests.toml": "demo_tests.toml",
    "workspace/CHANGELOG.md": "CHANGELOG.md",
    "workspace/postage.py": "postage.py.txt",
    "workspace/test_postage.py": "test_postage.py.txt",
}
PHOTOS = {"harbour.ppm": (40, 110, 180), "orchard.ppm": (70, 150, 60), "first-snow.ppm": (225, 232, 240)}
VERIFIER = "verify_standalone.py"
SCRIPT = "letters.json"
DATABASE = ".assent/assent.db"  # where the settings put it
LOG_KEY = ".assent/keys/log.pub"
PHOTO_SIDE = 64


def break_ground(folder: Path | None, *, start: Path) -> Path:
    """Make the folder, which is new or empty; without a name the next free `assent-demo-<n>` below `start`.

    Raises:
        Malformed: `folder_taken`.
        Unavailable: `folder_unusable`.
    """
    try:
        if folder is None:
            return _next_free(start)
        place = (start / folder).absolute()
        place.mkdir(parents=True, exist_ok=True)
        taken = any(place.iterdir())
    except OSError as error:
        what = (error.strerror or "no reason given").lower()
        raise Unavailable(
            "folder_unusable", f"`{error.filename or start}` cannot be used: {what}", hint="name another with --folder"
        ) from error
    if taken:
        raise Malformed("folder_taken", f"`{place}` is not empty", hint="name a folder that is new or empty")
    return place


def furnish(folder: Path, *, host: str) -> None:
    """Put everything in its place; `host` is where the release server listens."""
    material = files("assent.surfaces.demo.material")
    for place, name in MATERIAL.items():
        path = folder / place
        path.parent.mkdir(exist_ok=True)
        path.write_text((material / name).read_text(encoding="utf-8").replace(HOST_MARK, host), encoding="utf-8")
    photos = folder / "photos"
    photos.mkdir()
    for name, colour in PHOTOS.items():
        (photos / name).write_bytes(_photo(colour))
    (folder / SCRIPT).write_text('{"lines": []}\n', encoding="ascii")  # until the second act knows what is to be said
    (folder / VERIFIER).write_bytes((files("assent.ledger") / VERIFIER).read_bytes())
    (folder / ".gitignore").write_text("*\n", encoding="ascii")


def fingerprint(folder: Path) -> dict[str, str]:
    """The digest of every file in a folder: what must not change when nothing may happen to it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _next_free(start: Path) -> Path:
    """Two demonstrations may start at once: whoever makes the folder has it."""
    for number in count(1):
        place = start / f"{NAME}-{number}"
        try:
            place.mkdir()
        except FileExistsError:
            continue
        return place
    raise AssertionError("count() does not end")


def _photo(colour: tuple[int, int, int]) -> bytes:
    """A square picture (binary PPM) that grows darker towards the bottom."""
    rows = (bytes(part * (2 * PHOTO_SIDE - y) // (2 * PHOTO_SIDE) for part in colour) for y in range(PHOTO_SIDE))
    return b"P6 %d %d 255\n" % (PHOTO_SIDE, PHOTO_SIDE) + b"".join(row * PHOTO_SIDE for row in rows)
