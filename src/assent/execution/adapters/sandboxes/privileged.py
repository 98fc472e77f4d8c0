"""What only root can do for a sandbox that is never root: hand in mounts, one of them with an id map.

When Assent runs as root the jailed process runs as an unprivileged user of its own range, which could neither reach
the caller's interpreter (below a closed home, say) nor write a workspace that belongs to somebody else. So the
supervisor takes detached copies of those mounts (open_tree), marks them read-only, nosuid, nodev, and passes them as
descriptors. The workspace's copy carries an id map: the owner on disk appears inside as the sandbox's user, and what
the sandbox's user makes lands owned by that owner. Nothing on disk is changed, and another owner's file in the
workspace can be used only as its mode lets everybody use it.

The id map needs a user namespace to describe it; the spawner lends a process for a moment to hold one (`hold`).
The range of users lies below the one from which systemd draws its dynamic users (61184-65519), and below 65536, so
that it exists inside ordinary containers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from assent.execution.adapters.sandboxes import syscalls
from assent.execution.adapters.sandboxes.image import Image, Workspace
from assent.primitives.errors import Unavailable

UID_FIRST, UID_COUNT = 60_768, 256
_SYSTEM_MARKS = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV


def choose_uid(*, seed: int, first: int = UID_FIRST, count: int = UID_COUNT) -> int:
    """A uid of the range that no running process has, beginning the search at `seed`.

    Raises:
        Unavailable: every uid of the range is in use.
    """
    taken = set(_uids_running())
    for step in range(count):
        uid = first + (seed + step) % count
        if uid not in taken:
            return uid
    raise Unavailable("sandbox_failed", f"all {count} sandbox users from `{first}` are in use")


def write_map(pid: int, *, owner: tuple[int, int], sandbox: tuple[int, int]) -> int:
    """Map `owner` (as on disk) to `sandbox` in the namespace of the held process `pid`; return the namespace."""
    for kind, inside, outside in zip(("uid", "gid"), owner, sandbox, strict=True):
        with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as file:
            file.write(f"{inside} {outside} 1")
    return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)


def system_trees(image: Image) -> dict[str, int]:
    """A detached read-only mount for every system folder of the image, by target."""
    trees: dict[str, int] = {}
    for path in image.system:
        try:
            trees[path] = syscalls.open_tree(path)
            syscalls.set_mount(trees[path], _SYSTEM_MARKS)
        except OSError as error:
            close_all(trees.values())
            raise Unavailable("sandbox_failed", f"cannot take `{path}` into the sandbox: {error.strerror}") from error
    return trees


def workspace_tree(workspace: Workspace, *, writable: bool, namespace: int) -> int:
    """The detached, id-mapped mount of the workspace.

    Raises:
        Unavailable: the folder changed under us, or its file system cannot be id-mapped.
    """
    origin = os.open(workspace.path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(origin)
        if (found.st_dev, found.st_ino) != (workspace.device, workspace.inode):
            raise Unavailable("sandbox_failed", f"workspace `{workspace.path}` changed while it was being mounted")
        tree = syscalls.open_tree("", dir_fd=origin)
    finally:
        os.close(origin)
    return _mark(tree, workspace, writable=writable, namespace=namespace)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def _mark(tree: int, workspace: Workspace, *, writable: bool, namespace: int) -> int:
    marks = _SYSTEM_MARKS & ~(syscalls.MOUNT_ATTR_RDONLY if writable else 0)
    try:
        syscalls.set_mount(tree, marks | syscalls.MOUNT_ATTR_IDMAP, user_namespace=namespace)
    except OSError as error:
        os.close(tree)
        raise Unavailable(
            "sandbox_failed",
            f"the file system of workspace `{workspace.path}` cannot be id-mapped ({error.strerror})",
            hint="put the workspace on ext4, xfs, btrfs or tmpfs, or run Assent as the user who owns it",
        ) from error
    return tree


def _uids_running() -> Iterable[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield os.stat(f"/proc/{name}").st_uid
            except OSError:
                continue
