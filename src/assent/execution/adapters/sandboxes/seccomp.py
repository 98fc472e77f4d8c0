"""The system call filter: classic BPF assembled by hand, for x86_64 and aarch64.

Rules, in the order of the program:

1. A foreign architecture, and x86_64's x32 calls, end the process. A second calling convention would otherwise be a
   way around every number below.
2. Calls newer than the last one we know answer ENOSYS, so what a future kernel adds is closed until somebody has
   looked.
3. ENOSYS, so that the C library falls back: `clone3` and `openat2` (their flags are behind a pointer, which a filter
   cannot read); `memfd_create`, `shmget` and `msgget` (memory that no process's pages account for).
4. EPERM for whole groups that a jailed program has no business with: looking into other processes, kernel
   programming, keyrings, io_uring, mounts old and new, namespaces, modules, clocks, file handles, NUMA, long-dead
   calls; and `socket`. A network namespace does not cover unix sockets with a path, and neither does Landlock before
   its ABI 9: whatever of the host listens in the workspace (a database, an editor, an agent of keys) could be called.
5. EPERM by argument: `clone` with a namespace flag; `socketpair` but for connected unix streams and packets (one end of
   a datagram pair can still be pointed at any path); `ioctl` TIOCSTI and TIOCLINUX; `prlimit64` on another process;
   and every way to give a file a set-user-id or set-group-id bit. The last rule
   carries weight: when Assent is root, files land in the workspace owned by the workspace's owner, who may be root,
   and a setuid file would then be a way out for whoever runs it on the host.
6. Where an order names hosts, `socket` is judged by argument instead: AF_INET, SOCK_STREAM and TCP or the default
   protocol; EPERM for the rest, so there are no datagrams (and no name server to ask), no raw packets, no netlink, no
   IPv6, no multipath TCP, and still no unix sockets. The namespace and Landlock say where such a socket may lead.

Everything else is allowed: this is a reduction of what can be attacked, on top of namespaces and Landlock, not the
wall.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Mapping

from . import syscalls

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LAST_KNOWN_CALL = 466  # removexattrat; 467 (open_tree_attr) begins the unknown
_X32_BIT = 0x40000000

_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = _ERRNO | 1, _ERRNO | 38
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_GREATER, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
_AND = 0x54

NAMESPACE_FLAGS = 0x7E020000  # all CLONE_NEW* that clone(2) takes
_SET_ID_BITS = 0o6000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_SOCKET_KIND, _TCP = 0xF, 6  # the kind among the flags in a socket's type; the protocol's number
_UNCONNECTED = 0b10  # in the type of a socket: set for SOCK_DGRAM and SOCK_RAW, not for SOCK_STREAM and SOCK_SEQPACKET

_DENIED_EVERYWHERE = {
    "pidfd_getfd": 438, "process_madvise": 440, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "set_mempolicy_home_node": 450, "statmount": 457,
    "listmount": 458, "lsm_set_self_attr": 460,
}  # fmt: skip
_DENIED = {
    "x86_64": {
        "socket": 41, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "bpf": 321,
        "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250, "mount": 165,
        "umount2": 166, "setns": 308, "unshare": 272, "chroot": 161, "pivot_root": 155, "init_module": 175,
        "finit_module": 313, "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320, "reboot": 169,
        "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179, "iopl": 172, "ioperm": 173, "settimeofday": 164,
        "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "sethostname": 170, "setdomainname": 171,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "syslog": 103, "fanotify_init": 300, "fanotify_mark": 301,
        "modify_ldt": 154, "personality": 135, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239,
        "migrate_pages": 256, "move_pages": 279, "lookup_dcookie": 212, "nfsservctl": 180, "vhangup": 153,
        "ustat": 136, "sysfs": 139, "uselib": 134, "_sysctl": 156, "create_module": 174, "get_kernel_syms": 177,
        "query_module": 178,
    },
    "aarch64": {
        "socket": 198, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219, "mount": 40,
        "umount2": 39, "setns": 268, "unshare": 97, "chroot": 51, "pivot_root": 41, "init_module": 105,
        "finit_module": 273, "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294, "reboot": 142,
        "swapon": 224, "swapoff": 225, "acct": 89, "quotactl": 60, "settimeofday": 170, "clock_settime": 112,
        "clock_adjtime": 266, "adjtimex": 171, "sethostname": 161, "setdomainname": 162, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "syslog": 116, "fanotify_init": 262, "fanotify_mark": 263, "personality": 92,
        "mbind": 235, "set_mempolicy": 237, "get_mempolicy": 236, "migrate_pages": 238, "move_pages": 239,
        "lookup_dcookie": 18, "nfsservctl": 42, "vhangup": 58,
    },
}  # fmt: skip
_ABSENT_NAMES = ("clone3", "openat2", "memfd_create", "shmget", "msgget")
_ABSENT = {
    "x86_64": (435, 437, 319, 29, 68),
    "aarch64": (435, 437, 279, 194, 186),
}
_GUARDED = {
    "x86_64": {"clone": 56, "socketpair": 53, "ioctl": 16, "prlimit64": 302},
    "aarch64": {"clone": 220, "socketpair": 199, "ioctl": 29, "prlimit64": 261},
}
# Calls that take a file mode, and which argument it is: chmod, fchmod, fchmodat, fchmodat2, creat, mknod, mknodat.
_MODE_ARGUMENT = {
    "x86_64": {90: 1, 91: 1, 268: 2, 452: 2, 85: 1, 133: 1, 259: 2},
    "aarch64": {52: 1, 53: 2, 452: 2, 33: 2},
}
# open and openat: the flags and the mode; the mode means something (and is not left-over register) only when creating.
_OPEN_ARGUMENTS = {"x86_64": {2: (1, 2), 257: (2, 3)}, "aarch64": {56: (2, 3)}}
_CREATING = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE

_Instruction = tuple[int, int, int, int]
# Falls through to "allow" for socket(AF_INET, SOCK_STREAM | flags, 0 or TCP); the first argument is loaded already.
_TCP_ALONE: list[_Instruction] = [
    (_JUMP_EQUAL, 0, 6, socket.AF_INET),
    (_LOAD, 0, 0, 16 + 8 * 1), (_AND, 0, 0, _SOCKET_KIND), (_JUMP_EQUAL, 0, 3, socket.SOCK_STREAM),
    (_LOAD, 0, 0, 16 + 8 * 2), (_JUMP_EQUAL, 2, 0, 0), (_JUMP_EQUAL, 1, 0, _TCP),
    (_RETURN, 0, 0, _EPERM),
]  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def assemble(machine: str = syscalls.MACHINE, *, tcp: bool = False) -> bytes:
    """The filter for `machine` as the kernel reads it: eight bytes an instruction.

    With `tcp` sockets can be made of one kind alone: IPv4, stream, TCP (rule 6).

    Raises:
        KeyError: `machine` is neither `x86_64` nor `aarch64`.
    """
    program = _prologue(machine)
    for number in _ABSENT[machine]:
        program += _when_equal(number, _ENOSYS)
    sockets = _DENIED[machine]["socket"]
    for number in sorted({*_DENIED_EVERYWHERE.values(), *_DENIED[machine].values()} - ({sockets} if tcp else set())):
        program += _when_equal(number, _EPERM)
    program += _guards(machine)
    program += _guard(sockets, 0, _TCP_ALONE) if tcp else []
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def named_refusals(machine: str) -> tuple[list[str], list[str]]:
    """The calls the filter refuses whatever their arguments, by name: with EPERM, and with ENOSYS."""
    return [*_DENIED_EVERYWHERE, *_DENIED[machine]], list(_ABSENT_NAMES)


def refusing(
    numbers: Iterable[int], *, of_others: Iterable[int] = (), by_path: Mapping[int, int] | None = None
) -> bytes:
    """A further filter, to stand on top of `assemble()`: it refuses `numbers`.

    The calls `of_others` are refused when their first argument, a process, is not zero; those in `by_path` when the
    argument of that position, a path, is there at all.
    """
    program = _prologue(syscalls.MACHINE)
    for number in sorted(numbers):
        program += _when_equal(number, _EPERM)
    for number in of_others:
        program += _guard(number, 0, [(_JUMP_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _EPERM)])
    for number, argument in (by_path or {}).items():
        halves = [(_JUMP_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _EPERM), _load(20 + 8 * argument)]
        program += _guard(number, argument, [*halves, (_JUMP_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _EPERM)])
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def install(program: bytes) -> None:
    """Put the filter on this process and all it starts. Needs no_new_privs. It cannot be taken off."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(length=len(program) // 8, instructions=ctypes.addressof(buffer))
    syscalls.call("seccomp", syscalls.SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(header))


def _prologue(machine: str) -> list[_Instruction]:
    program = [_load(4), (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _KILL), _load(0)]
    if machine == "x86_64":
        program += [(_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL)]
    return [*program, (_JUMP_GREATER, 0, 1, _LAST_KNOWN_CALL), (_RETURN, 0, 0, _ENOSYS)]


def _guards(machine: str) -> list[_Instruction]:
    calls = _GUARDED[machine]
    program = _guard(calls["clone"], 0, [(_JUMP_ANY_BIT, 0, 1, NAMESPACE_FLAGS), (_RETURN, 0, 0, _EPERM)])
    unix = [(_JUMP_EQUAL, 1, 0, socket.AF_UNIX), (_RETURN, 0, 0, _EPERM), _load(16 + 8 * 1)]
    program += _guard(calls["socketpair"], 0, [*unix, (_JUMP_ANY_BIT, 0, 1, _UNCONNECTED), (_RETURN, 0, 0, _EPERM)])
    refuse_terminal = [(_JUMP_EQUAL, 1, 0, _TIOCSTI), (_JUMP_EQUAL, 0, 1, _TIOCLINUX), (_RETURN, 0, 0, _EPERM)]
    program += _guard(calls["ioctl"], 1, refuse_terminal)
    program += _guard(calls["prlimit64"], 0, [(_JUMP_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _EPERM)])
    for number, argument in _MODE_ARGUMENT[machine].items():
        program += _guard(number, argument, [(_JUMP_ANY_BIT, 0, 1, _SET_ID_BITS), (_RETURN, 0, 0, _EPERM)])
    for number, (flags, mode) in _OPEN_ARGUMENTS[machine].items():
        creating = [(_JUMP_ANY_BIT, 0, 3, _CREATING), _load(16 + 8 * mode)]
        program += _guard(number, flags, [*creating, (_JUMP_ANY_BIT, 0, 1, _SET_ID_BITS), (_RETURN, 0, 0, _EPERM)])
    return program


def _guard(number: int, argument: int, test: list[_Instruction]) -> list[_Instruction]:
    """When the call is `number`: load an argument's low half, run `test`, allow if it falls through."""
    body = [_load(16 + 8 * argument), *test, (_RETURN, 0, 0, _ALLOW)]
    return [(_JUMP_EQUAL, 0, len(body), number), *body]


def _when_equal(number: int, answer: int) -> list[_Instruction]:
    return [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]


def _load(offset: int) -> _Instruction:
    return (_LOAD, 0, 0, offset)
