"""The attack list: thirty-five ways out, by the name each goes by among people, and the probe that tries it.

`attack_matrix.txt` says how each class answers each of them, once for an ordinary user and once where Assent is root.
`either` stands where it is the machine that decides (a kernel setting, a container around the tests), which is only
ever the case where nothing confines, or next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MATRIX = Path(__file__).with_name("attack_matrix.txt")
BLOCKED, OPEN, EITHER, NOT_USED = "blocked", "open", "either", "-"
LIST = {
    "write outside": "write_outside",
    "write through a link": "write_through_link",
    "read a key": "read_key",
    "read the shadow file": "read_shadow",
    "environment of a victim": "environment_of_victim",
    "list of processes": "list_processes",
    "signal a victim": "signal_victim",
    "trace a victim": "trace_victim",
    "read a victim's memory": "read_memory_of_victim",
    "tcp, loopback": "connect_tcp_loopback",
    "tcp, own address": "connect_tcp_interface",
    "udp, loopback": "send_udp_loopback",
    "unix socket, by path": "connect_path_outside",
    "unix socket, abstract": "connect_abstract",
    "raw socket": "open_raw_sockets",
    "vsock": "open_vsock",
    "fork bomb": "bomb_forks",
    "memory bomb": "bomb_memory",
    "descriptor bomb": "bomb_descriptors",
    "disk bomb": "bomb_disk_in_workspace",
    "new user namespace": "nest_user_namespace",
    "mount": "mount_something",
    "io_uring": "set_up_io_uring",
    "bpf": "call_bpf",
    "keyring": "call_keyctl",
    "userfaultfd": "call_userfaultfd",
    "perf": "open_perf",
    "kvm device": "open_kvm",
    "write a cgroup": "write_cgroup",
    "host name": "write_host_name",
    "core pattern": "write_core_pattern",
    "inherited environment": "inherit_environment",
    "gain privileges": "gain_privileges",
    "inherited descriptor": "read_inherited_descriptors",
    "negative nice": "raise_priority",
}
ALONE = ("bomb_forks", "bomb_memory")  # they may end the run
MECHANISMS = ("bare", "local-weak", "confined", "namespaces", "bubblewrap", "container")
USERS = ("ordinary", "root")
COLUMNS = tuple((mechanism, user) for mechanism in MECHANISMS for user in USERS)
_WIDTH = 10


def read() -> dict[tuple[str, str], dict[str, str]]:
    """The committed matrix: for each mechanism and user, how each attack of the list ends."""
    lines = [line for line in MATRIX.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    rows = {line[:26].strip(): line[26:].split() for line in lines[2:]}
    return {column: {name: cells[at] for name, cells in rows.items()} for at, column in enumerate(COLUMNS)}


def drawn(matrix: Mapping[tuple[str, str], Mapping[str, str]]) -> str:
    """The text of a matrix."""
    head = "".join(f"{mechanism:<{_WIDTH}} "[: _WIDTH + 1] for mechanism, _ in COLUMNS)
    users = "".join(f"{user:<{_WIDTH}} " for _, user in COLUMNS)
    lines = [f"{'':26}{head}".rstrip(), f"{'':26}{users}".rstrip()]
    for name in LIST:
        cells = "".join(f"{matrix[column][name]:<{_WIDTH}} " for column in COLUMNS)
        lines.append(f"{name:<26}{cells}".rstrip())
    return "\n".join(lines) + "\n"


def counted(row: Mapping[str, str]) -> int:
    """How many of the list are blocked for certain."""
    return sum(cell == BLOCKED for cell in row.values())
