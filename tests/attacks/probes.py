# ruff: noqa: BLE001, UP031, PTH116, PTH118, PTH120
# ruff: noqa: PTH208 - an attacker speaks to the kernel; whatever stops it is the answer
"""Real attempts to get out, made from inside. Stand-alone: its text is handed to an interpreter in the sandbox, and the
target arrives as JSON on standard input, so that no command line and no environment holds what is looked for.

It prints one JSON object: for each probe whether it `won` (true, false, or null where only a look from outside can
tell), what it `saw`, and whether it `stumbled` over itself, which proves nothing. What it saw is printed so that a
secret that leaked is found in the output, whatever the probe thought of it. Every probe is harmless where it succeeds,
because all of them also run where nothing is confined.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import pathlib
import platform
import signal
import socket
import struct
import subprocess
import sys
import time

ARM = platform.machine() == "aarch64"
SECONDS = 0.3
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
CALL = {
    "unshare": (272, 97), "clone": (56, 220), "setns": (308, 268), "mount": (165, 40), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "bpf": (321, 280), "keyctl": (250, 219), "add_key": (248, 217),
    "userfaultfd": (323, 282), "perf_event_open": (298, 241), "chroot": (161, 51), "pivot_root": (155, 41),
    "sethostname": (170, 161), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "ioprio_set": (251, 30), "mknodat": (259, 33), "shmget": (29, 194), "msgget": (68, 186),
    "memfd_create": (319, 279), "kexec_load": (246, 104), "init_module": (175, 105), "settimeofday": (164, 170),
    "io_uring_setup": (425, 425), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "clone3": (435, 435), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "fchmodat2": (452, 452),
}  # fmt: skip
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
SHUT = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def call(name, *arguments):
    """One raw system call: its result, or minus its error number."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = libc.syscall(ctypes.c_long(CALL[name][ARM]), *words)
    return result if result >= 0 else -ctypes.get_errno()


def reached(name, *arguments):
    """Whether the call was answered by the kernel's own code: any error but a refusal comes from there."""
    result = call(name, *arguments)
    return result >= 0 or -result not in SHUT


def in_child(deed):
    """Run `deed` in a child; whether it came back true. Ended by a signal counts as false."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if deed() else 1
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def text_of(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 65_536).decode(errors="replace")
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------------------------------- files


def write_outside(t):
    fd = os.open(t["canary"], os.O_WRONLY | os.O_APPEND)
    return os.write(fd, b"touched") > 0


def create_outside(t):
    with pathlib.Path(os.path.join(os.path.dirname(t["canary"]), "planted")).open(
        "w"
    ) as file:  # private /tmp may have this folder
        file.write("planted")


def write_through_link(t):
    link = os.path.join(t["workspace"], "link-to-canary")
    pathlib.Path(link).symlink_to(t["canary"])
    fd = os.open(link, os.O_WRONLY | os.O_APPEND)
    return os.write(fd, b"touched") > 0


def read_key(t):
    return text_of(t["key"])


def read_shadow(t):
    return text_of("/etc/shadow")


def read_own_record(t):
    """Assent's own folder: the log's key, the database, the checkpoints."""
    found = ""
    for folder, _, names in os.walk(t["data"]):
        for name in names:
            with contextlib.suppress(OSError):
                found += text_of(os.path.join(folder, name))
    return found


def climb_by_proc(t):
    """Every way of spelling a path that starts somewhere else."""
    found = ""
    for start in (
        "/proc/1/root", "/proc/1/cwd/../../../../..", "/proc/self/root/..", "/proc/self/cwd/../../../../..", "/..",
        "/proc/thread-self/root", "/proc/self/task/%d/root/../.." % os.getpid(), "/proc/self/fd/../root/proc/1/root",
        t["workspace"] + "/../../../../../..",
    ):  # fmt: skip
        with contextlib.suppress(OSError):
            found += text_of(start + t["key"])
    return found


def climb_by_folders(t):
    """Walk up by descriptor until it goes no further, then down to the key."""
    fd = os.open(t["workspace"], os.O_RDONLY)
    for _ in range(64):
        above = os.open("..", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = above
    os.fchdir(fd)
    return text_of(t["key"].lstrip("/"))


def change_root(t):
    pathlib.Path("/tmp/cell").mkdir(exist_ok=True, parents=True)
    return reached("chroot", b"/tmp/cell") or reached("pivot_root", b"/tmp", b"/tmp/cell")


def open_by_handle(t):
    buffer = struct.pack("Ii", 128, 0) + bytes(128)
    mount = ctypes.c_int()
    got = reached("name_to_handle_at", -100, t["workspace"].encode(), ctypes.create_string_buffer(buffer),
                  ctypes.byref(mount), 0)  # fmt: skip
    return got or reached("open_by_handle_at", -100, ctypes.create_string_buffer(buffer), 0)


def hard_link_outside(t):
    inside = os.path.join(t["workspace"], "hard")
    os.link(t["key"], inside)
    return text_of(inside)


def move_the_workspace(t):
    """Put a link where the workspace was, for whoever comes next."""
    pathlib.Path(t["workspace"]).rename(t["workspace"] + "-moved")
    pathlib.Path(t["workspace"]).symlink_to("/etc")
    pathlib.Path(t["workspace"]).unlink()
    pathlib.Path(t["workspace"] + "-moved").rename(t["workspace"])
    return True


def make_device(t):
    """The host's disks by number, in a folder that allows it."""
    path = os.path.join(t["workspace"], "device")
    return call("mknodat", -100, path.encode(), 0o020666, os.makedev(1, 1)) == 0


def make_set_id_file(t):
    path = os.path.join(t["workspace"], "set-id")
    with pathlib.Path(path).open("w"):
        pass
    holder = os.open(path, os.O_RDONLY)
    folder = os.open(t["workspace"], os.O_RDONLY)
    for number, mode in enumerate((0o4755, 0o2755, 0o6755)):
        for way in (
            lambda mode=mode: pathlib.Path(path).chmod(mode),
            lambda mode=mode: os.fchmod(holder, mode),
            lambda mode=mode: os.chmod("set-id", mode, dir_fd=folder),
            lambda mode=mode: call("fchmodat2", folder, b"set-id", mode, 0),
            lambda mode=mode, number=number: os.open(f"{path}-{number}", os.O_CREAT | os.O_WRONLY, mode),
            lambda mode=mode, number=number: os.mknod(f"{path}-n{number}", 0o100000 | mode),
            lambda mode=mode: os.fchmod(os.open(t["workspace"], os.O_TMPFILE | os.O_RDWR, 0o700), mode),
            lambda mode=mode: os.link(
                "/proc/self/fd/%d" % os.open(t["workspace"], os.O_TMPFILE | os.O_RDWR, mode), path + "-t",
                follow_symlinks=True,
            ),
        ):  # fmt: skip
            with contextlib.suppress(OSError):
                way()
    names = [os.path.join(t["workspace"], name) for name in os.listdir(t["workspace"]) if name.startswith("set-id")]
    return any(os.lstat(name).st_mode & 0o6000 for name in names)


def give_file_capabilities(t):
    path = os.path.join(t["workspace"], "capable")
    with pathlib.Path(path).open("w"):
        pass
    os.setxattr(path, "security.capability", struct.pack("<5I", 0x02000000, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0))
    return True


# ----------------------------------------------------------------------------------------------------- other processes


def environment_of_victim(t):
    found = ""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and int(name) != os.getpid():
                found += text_of("/proc/%s/environ" % name)
    return found


def list_processes(t):
    found = ""
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and int(name) != os.getpid():
                found += name + ":" + text_of("/proc/%s/cmdline" % name).replace("\0", " ") + ";"
    return found


def trace_victim(t):
    return call("ptrace", 0x4206, t["victim"], 0, 0) == 0  # PTRACE_SEIZE


def read_memory_of_victim(t):
    start, end = t["victim_stack"]
    here = ctypes.create_string_buffer(end - start)
    local = struct.pack("PN", ctypes.addressof(here), end - start)
    remote = struct.pack("PN", start, end - start)
    got = call("process_vm_readv", t["victim"], local, 1, remote, 1, 0)
    if got <= 0:
        return False
    return here.raw[:got].decode("latin-1")


def read_memory_file_of_victim(t):
    start, end = t["victim_stack"]
    with pathlib.Path("/proc/%d/mem" % t["victim"]).open("rb") as file:
        file.seek(start)
        return file.read(end - start).decode("latin-1")


def signal_victim(t):
    os.kill(t["mortal"], signal.SIGKILL)


def signal_everybody(t):
    """Only where this is confined: it would end the session of whoever runs the tests."""
    if t["confined"]:
        os.kill(-1, signal.SIGKILL)


def take_descriptor_of_victim(t):
    pidfd = call("pidfd_open", t["victim"], 0)
    return pidfd >= 0 and call("pidfd_getfd", pidfd, 0, 0) >= 0


def attack_process_one(t):
    if not t["confined"]:
        return False
    found = [call("ptrace", 0x4206, 1, 0, 0) == 0]
    for name in ("mem", "environ", "maps"):
        with contextlib.suppress(OSError):
            text_of("/proc/1/" + name)
            found.append(True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # process 1 passes it on to everybody
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM, signal.SIGUSR1):
        os.kill(1, number)
    return any(found)


def enter_namespaces_of_one(t):
    for kind in ("mnt", "pid", "net", "user"):
        with contextlib.suppress(OSError):
            if call("setns", os.open("/proc/1/ns/" + kind, os.O_RDONLY), 0) == 0:
                return True
    return reached("setns", -1, 0)


# -------------------------------------------------------------------------------------------------------------- network


def connect_tcp_loopback(t):
    socket.create_connection(("127.0.0.1", t["tcp"]), SECONDS).close()
    return True


def connect_tcp_interface(t):
    socket.create_connection((t["interface"], t["tcp_interface"]), SECONDS).close()
    return True


def send_udp_loopback(t):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return one.sendto(b"hello", ("127.0.0.1", t["udp"])) > 0


def connect_path_outside(t):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(t["socket_outside"])
    return True


def connect_path_in_workspace(t):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(t["socket_inside"])
    return True


def send_path_in_workspace(t):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        return one.sendto(b"hello", t["datagrams_inside"]) > 0


def send_by_a_socket_pair(t):
    """One half of a connected pair can still be pointed at a path."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        with contextlib.suppress(OSError):
            one, _other = socket.socketpair(socket.AF_UNIX, kind)
            with contextlib.suppress(OSError):
                one.sendto(b"hello", t["datagrams_inside"])
            one.connect(t["datagrams_inside"])
            one.send(b"hello")


def connect_abstract(t):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + t["abstract"])
    return True


def open_raw_sockets(t):
    for family, kind, protocol in (
        (socket.AF_INET, socket.SOCK_RAW, 1),
        (socket.AF_PACKET, socket.SOCK_RAW, 0),
        (socket.AF_INET6, socket.SOCK_RAW, 58),
    ):
        with contextlib.suppress(OSError):
            socket.socket(family, kind, protocol).close()
            return True
    return False


def open_netlink(t):
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
    return True


def open_vsock(t):
    socket.socket(40, socket.SOCK_STREAM).close()
    return True


# -------------------------------------------------------------------------------------------------------------- surface


def nest_user_namespace(t):
    size = 88
    arguments = struct.pack("11Q", NEW_USER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)

    def by_clone(name, *words):
        pid = call(name, *words)
        if pid == 0:
            os._exit(0)
        if pid > 0:
            os.waitpid(pid, 0)
        return pid > 0

    return (
        in_child(lambda: call("unshare", NEW_USER) == 0)
        or by_clone("clone", NEW_USER | signal.SIGCHLD, 0, 0, 0, 0)
        or by_clone("clone3", ctypes.create_string_buffer(arguments, size), size)
    )


def mount_something(t):
    def mounted():
        call("unshare", NEW_USER | NEW_MOUNTS)
        return call("mount", b"none", t["workspace"].encode(), b"tmpfs", 0, 0) == 0

    return in_child(mounted)


def mount_by_new_calls(t):
    return (
        reached("open_tree", -100, b"/", 1)
        or reached("fsopen", b"tmpfs", 0)
        or reached("move_mount", -1, b"", -1, b"/x", 4)
    )


def set_up_io_uring(t):
    return reached("io_uring_setup", 1, ctypes.create_string_buffer(512))


def call_bpf(t):
    return reached("bpf", 0, ctypes.create_string_buffer(128), 128)


def call_keyctl(t):
    return reached("keyctl", 0, -3, 0) or reached("add_key", b"user", b"name", b"x", 1, -3)


def call_userfaultfd(t):
    return reached("userfaultfd", 1)  # UFFD_USER_MODE_ONLY


def open_perf(t):
    attributes = struct.pack("IIQ", 1, 128, 0) + bytes(112)  # PERF_TYPE_SOFTWARE
    return reached("perf_event_open", ctypes.create_string_buffer(attributes), 0, -1, -1, 0)


def open_kvm(t):
    os.open("/dev/kvm", os.O_RDWR)
    return True


def open_other_devices(t):
    wanted = ("mem", "kmsg", "fuse", "tty", "ptmx", "net/tun", "loop-control", "console", "sda", "vda", "dri/card0")
    return any(pathlib.Path("/dev/" + name).exists() for name in wanted)


def write_cgroup(t):
    for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/proc/self/root/sys/fs/cgroup"):
        with contextlib.suppress(OSError):
            pathlib.Path(os.path.join(folder, t["cgroup"])).mkdir()
            return True
        with contextlib.suppress(OSError), pathlib.Path(os.path.join(folder, "cgroup.procs")).open("w") as file:
            file.write(str(os.getpid()))
            return True
    return False


def write_host_name(t):
    name = t["host_name"].encode()
    if call("sethostname", name, len(name)) == 0:
        return True
    with pathlib.Path("/proc/sys/kernel/hostname").open("w") as file:
        file.write(t["host_name"])
    return True


def write_core_pattern(t):
    with pathlib.Path("/proc/sys/kernel/core_pattern").open("r+") as file:
        same = file.read()
        file.seek(0)
        file.write(same)
    return True


def open_kernel_switches(t):
    """Opened for writing and left alone."""
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/kcore"):
        with contextlib.suppress(OSError):
            os.open(path, os.O_WRONLY if path != "/proc/kcore" else os.O_RDONLY)
            return True
    return False


def change_the_machine(t):
    return any(
        reached(*one)
        for one in (("kexec_load", 0, 0, 0, 0), ("init_module", b"", 0, b""), ("settimeofday", 0, 0))
    )  # fmt: skip


def speak_another_dialect(t):
    """A system call by the 32-bit gate, and one with the x32 bit: other numbers than the filter reads."""
    if platform.machine() != "x86_64":
        return False

    def by_int_80():
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        return ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid()

    def by_x32():
        return libc.syscall(ctypes.c_long(0x40000000 | 39)) == os.getpid()

    return in_child(by_int_80) or in_child(by_x32)


def hide_memory(t):
    """Memory that belongs to no process: nothing that sums up processes sees it."""
    segment, queue = call("shmget", 0, 4096, 0o1600), call("msgget", 0, 0o1600)
    libc.shmctl(segment, 0, None)  # IPC_RMID
    libc.msgctl(queue, 0, None)
    return segment >= 0 or queue >= 0 or call("memfd_create", b"x", 0) >= 0


# ------------------------------------------------------------------------------------------------------------ authority


def inherit_environment(t):
    return json.dumps(dict(os.environ))


def gain_privileges(t):
    if libc.prctl(39, 0, 0, 0, 0) != 1:  # PR_GET_NO_NEW_PRIVS
        return True
    said = subprocess.run([t["set_id_program"], "-u"], capture_output=True, text=True, check=False).stdout
    return said.strip() not in ("", str(os.getuid()))  # a container's own root is nobody outside, and stays what it is


def read_inherited_descriptors(t):
    found = ""
    for fd in range(3, 1024):
        with contextlib.suppress(OSError):
            found += os.pread(fd, 4096, 0).decode(errors="replace") or "fd %d" % fd
    return found


def raise_priority(t):
    for way in (
        lambda: os.nice(-5),
        lambda: os.setpriority(os.PRIO_PROCESS, 0, -10),
        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    ):
        with contextlib.suppress(OSError):
            way()
            return True
    return False


def raise_disk_priority(t):
    return call("ioprio_set", 1, 0, 1 << 13) == 0  # IOPRIO_CLASS_RT


def raise_limits(t):
    import resource

    for name in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(name, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return True
    return False


def inject_into_terminal(t):
    """Push a character into whatever terminal can be found."""
    holders = [0, 1, 2]
    for path in ("/dev/tty", "/dev/console", t["terminal"]):
        with contextlib.suppress(OSError):
            holders.append(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    for fd in holders:
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, 0x5412, b"x")  # TIOCSTI
            return True
    return False


def write_to_terminal(t):
    os.write(os.open(t["terminal"], os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), b"forged prompt")
    return True


# ---------------------------------------------------------------------------------------------------------------- bombs


def bomb_forks(t):
    children: list[int] = []
    with contextlib.suppress(OSError):
        while len(children) < 400:
            child = os.fork()
            if child == 0:
                time.sleep(600)
            children.append(child)
    print("forked", len(children), flush=True)
    while t["counted"] and not pathlib.Path(t["counted"]).exists():
        time.sleep(0.01)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(children) > t["processes_max"]


def bomb_threads(t):
    import threading

    started, over = 0, threading.Event()
    with contextlib.suppress(RuntimeError):
        while started < 400:
            threading.Thread(target=over.wait, daemon=True).start()
            started += 1
    over.set()
    return started > t["processes_max"]


def bomb_shared_memory(t):
    """Pages that count against no process's own limit."""
    shared = mmap.mmap(-1, t["memory_tried"])
    for at in range(0, len(shared), 4096):
        shared[at] = 1
    time.sleep(1)  # the supervisor looks every tenth of a second
    return True


def bomb_memory(t):
    held: list[bytes] = []
    piece = 16_777_216
    with contextlib.suppress(MemoryError):
        while len(held) * piece < t["memory_tried"]:
            held.append(b"x" * piece)
    return len(held) * piece > t["memory_bytes_max"]


def bomb_descriptors(t):
    held: list[int] = []
    with contextlib.suppress(OSError):
        while len(held) < 4096:
            held.append(os.open("/dev/null", os.O_RDONLY))
    count = len(held)
    for fd in held:
        os.close(fd)
    return count > t["open_files_max"]


def fill(path, bytes_max):
    written, piece = 0, bytes(1_048_576)
    with contextlib.suppress(OSError), pathlib.Path(path).open("wb", buffering=0) as file:
        while written < bytes_max:
            written += file.write(piece)
    return written


def bomb_disk_in_tmp(t):
    paths = ["/tmp/bomb-%s-%d" % (t["cgroup"], number) for number in range(4)]
    written = sum(fill(path, t["disk_tried"] // 4) for path in paths)
    for path in paths:
        with contextlib.suppress(OSError):
            pathlib.Path(path).unlink()
    return written > t["file_bytes_max"]


def bomb_disk_in_workspace(t):
    path = os.path.join(t["workspace"], "bomb")
    written = fill(path, t["disk_tried"])
    print("largest", os.stat(path).st_size, flush=True)
    pathlib.Path(path).unlink()
    return written > t["file_bytes_max"]


def bomb_inodes_in_tmp(t):
    folder, count = "/tmp/inodes-%s" % t["cgroup"], 0
    pathlib.Path(folder).mkdir()
    with contextlib.suppress(OSError):
        while count < t["inodes_tried"]:
            os.close(os.open("%s/%d" % (folder, count), os.O_CREAT | os.O_WRONLY, 0o600))
            count += 1
    for number in range(count):
        pathlib.Path("%s/%d" % (folder, number)).unlink()
    return count > t["inodes_max"]


def tried(probe, target):
    try:
        saw = probe(target)
    except OSError as error:
        stumbled = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        return {"won": False, "saw": "%s: %s" % (type(error).__name__, error), "stumbled": stumbled}
    except BaseException as error:
        return {"won": False, "saw": "%s: %s" % (type(error).__name__, error), "stumbled": True}
    finally:
        os.closerange(3, 1024)
    if saw is None or isinstance(saw, bool):
        return {"won": saw, "saw": ""}
    return {"won": None, "saw": str(saw)[:200_000]}  # what it saw decides: is a secret in it?


if __name__ == "__main__":
    _target = json.loads(sys.stdin.read())
    _first = sorted(_target["probes"], key=lambda name: name != "read_inherited_descriptors")  # others close them
    _probes = {name: tried(globals()[name], _target) for name in _first}
    print(json.dumps(_probes))
