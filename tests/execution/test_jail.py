"""The parts of the jail: the filter judged call by call on both architectures, the image's refusals, what the proof
accepts, and the room as seen from inside."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.adapters.sandboxes import attest, landlock, privileged, seccomp
from assent.execution.adapters.sandboxes.image import Image, check_order, folder_inside
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.orders import ProcessOrder
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed, Unavailable

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, EPERM, ENOSYS = "allow", "kill", errno.EPERM, errno.ENOSYS
CALLS = {
    "x86_64": {
        "read": 0, "open": 2, "openat": 257, "openat2": 437, "ptrace": 101, "clone": 56, "clone3": 435, "unshare": 272,
        "socket": 41, "socketpair": 53, "ioctl": 16, "chmod": 90, "fchmod": 91, "fchmodat": 268, "creat": 85,
        "mknodat": 259, "bpf": 321, "mount": 165, "keyctl": 250, "execve": 59, "prlimit64": 302, "memfd_create": 319,
        "shmget": 29, "msgget": 68,
    },
    "aarch64": {
        "read": 63, "openat": 56, "openat2": 437, "ptrace": 117, "clone": 220, "clone3": 435, "unshare": 97,
        "socket": 198, "socketpair": 199, "ioctl": 29, "fchmod": 52, "fchmodat": 53, "mknodat": 33,
        "bpf": 280, "mount": 40, "keyctl": 219,
        "execve": 221, "prlimit64": 261, "memfd_create": 279, "shmget": 194, "msgget": 186,
    },
}  # fmt: skip
O_CREAT = 0o100
JUDGED = [
    ("read", (), ALLOW), ("execve", (), ALLOW), ("ptrace", (), EPERM), ("bpf", (), EPERM), ("mount", (), EPERM),
    ("keyctl", (), EPERM), ("unshare", (), EPERM), ("openat2", (), ENOSYS), ("clone3", (), ENOSYS),
    ("memfd_create", (), ENOSYS), ("clone", (17,), ALLOW), ("clone", (0x10000011,), EPERM),
    ("clone", (0x00020011,), EPERM),
    ("clone", (0x003D0F00,), ALLOW), ("socket", (1,), EPERM), ("socket", (2,), EPERM), ("socket", (10,), EPERM),
    ("socket", (16,), EPERM), ("socket", (40,), EPERM), ("ioctl", (0, 0x5412), EPERM), ("ioctl", (0, 0x541C), EPERM),
    ("socketpair", (1, 1), ALLOW), ("socketpair", (1, 0x80801), ALLOW), ("socketpair", (1, 5), ALLOW),
    ("socketpair", (1, 2), EPERM), ("socketpair", (1, 0x80002), EPERM), ("socketpair", (1, 3), EPERM),
    ("socketpair", (2, 1), EPERM), ("shmget", (), ENOSYS), ("msgget", (), ENOSYS),
    ("ioctl", (0, 0x5401), ALLOW), ("fchmod", (3, 0o755), ALLOW), ("fchmod", (3, 0o4755), EPERM),
    ("fchmod", (3, 0o2755), EPERM), ("fchmodat", (0, 0, 0o6755), EPERM), ("mknodat", (0, 0, 0o104755), EPERM),
    ("openat", (0, 0, O_CREAT, 0o644), ALLOW), ("openat", (0, 0, O_CREAT, 0o4755), EPERM),
    ("openat", (0, 0, 0o20000000, 0o2755), EPERM), ("openat", (0, 0, 0, 0o6755), ALLOW),
    ("prlimit64", (0,), ALLOW), ("prlimit64", (1,), EPERM),
    ("chmod", (0, 0o4755), EPERM), ("creat", (0, 0o4755), EPERM), ("open", (0, O_CREAT, 0o4755), EPERM),
    ("open", (0, 0, 0o4755), ALLOW),
]  # fmt: skip


def verdict(machine, number, arguments=(), *, arch=None):
    """Run the filter as the kernel does."""
    program = seccomp.assemble(machine)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *values)
    at, word = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == 0x20:
            word = struct.unpack_from("=I", data, operand)[0]
        elif operation == 0x06:
            return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(operand, operand & 0xFFFF)
        else:
            test = {0x15: word == operand, 0x35: word >= operand, 0x25: word > operand, 0x45: bool(word & operand)}
            at += if_true if test[operation] else if_false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("name", "arguments", "answer"), JUDGED)
def test_filter_judges_a_call_when_it_is_made(machine, name, arguments, answer):
    if name not in CALLS[machine]:
        assert name in ("open", "chmod", "creat")  # what aarch64 never had
        return
    assert verdict(machine, CALLS[machine][name], arguments) == answer


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_kills_when_the_architecture_is_foreign(machine):
    assert verdict(machine, CALLS[machine]["read"], arch=0x40000003) == KILL


def test_filter_kills_when_an_x32_call_is_made():
    assert verdict("x86_64", 0x40000000 | 59) == KILL


@given(st.sampled_from(["x86_64", "aarch64"]), st.integers(467, 0x3FFFFFFF))
def test_filter_answers_enosys_when_a_call_is_newer_than_it_knows(machine, number):
    assert verdict(machine, number) == ENOSYS


@given(st.sampled_from(["x86_64", "aarch64"]), st.integers(0, 500), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_filter_always_ends_in_an_answer_when_anything_is_called(machine, number, arguments):
    assert verdict(machine, number, arguments) in (ALLOW, EPERM, ENOSYS)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_filter_looks_at_the_half_that_the_kernel_uses_when_an_argument_is_wide(high, flags):
    wide = (high << 32) | flags
    assert verdict("x86_64", 56, (wide,)) == (EPERM if flags & 0x7E020000 else ALLOW)


@pytest.mark.parametrize(("version", "bits"), [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (6, 16), (7, 16)])
def test_landlock_handles_every_right_of_an_abi_when_asked(version, bits):
    assert landlock.handled_files(version) == (1 << bits) - 1


@pytest.mark.parametrize(
    "path", ["/", "/tmp", "/usr", "/etc", "/usr/share", "/proc/self", "/dev", "relative", "/no/such"]
)
def test_workspace_is_refused_when_it_is_the_systems_or_no_folder(path):
    with pytest.raises(Malformed):
        Image().workspace(ProcessOrder(argv=("true",), workspace=path))


def test_workspace_is_refused_when_a_link_leads_it_to_the_system(tmp_path):
    (tmp_path / "innocent").symlink_to("/etc/ssl")
    with pytest.raises(Malformed):
        Image().workspace(ProcessOrder(argv=("true",), workspace=str(tmp_path / "innocent")))


@pytest.mark.parametrize("inside", ["state", "state/deeper", "."])
def test_workspace_is_refused_when_it_would_show_what_is_protected(tmp_path, inside):
    (tmp_path / "state" / "deeper").mkdir(parents=True)
    image = Image(protected=[tmp_path / "state"])
    with pytest.raises(Malformed):
        image.workspace(ProcessOrder(argv=("true",), workspace=str((tmp_path / inside).resolve())))


@pytest.mark.parametrize(
    "fields",
    [
        {"argv": ()},
        {"argv": ("",)},
        {"argv": ("a\0b",)},
        {"env": {"A=B": "x"}},
        {"env": {"": "x"}},
        {"env": {"A": "x\0y"}},
        {"cwd": "/abs"},
        {"cwd": "../up"},
        {"cwd": "a/../../up"},
    ],
)
def test_order_is_refused_when_its_words_cannot_be_carried(fields):
    with pytest.raises(Malformed):
        check_order(ProcessOrder(**{"argv": ("true",), "workspace": "/w", **fields}))


@given(st.lists(st.sampled_from(["a", "b", ".", "..", ""]), max_size=6))
def test_folder_stays_below_the_workspace_when_cwd_is_accepted(parts):
    order = ProcessOrder(argv=("true",), workspace="/w/s", cwd="/".join(parts).lstrip("/"))
    try:
        assert (folder_inside(order) + "/").startswith("/w/s/")
    except Malformed:
        assert ".." in parts


def test_sandbox_user_is_none_that_runs_when_it_is_chosen():
    taken = next(uid for uid in privileged._uids_running() if uid == os.getuid())
    chosen = privileged.choose_uid(seed=taken, first=0, count=70_000)
    assert chosen != taken


def test_sandbox_user_is_refused_when_the_range_is_used_up():
    with pytest.raises(Unavailable):
        privileged.choose_uid(seed=0, first=os.getuid(), count=1)


def launched(pid):
    return Launch(gate=None, init_pid=pid, init_pidfd=-1, program_pid=pid)  # type: ignore[arg-type]


PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def test_proof_accepts_nothing_when_the_process_is_not_confined(tmp_path):
    order = ProcessOrder(argv=("true",), workspace=str(tmp_path))
    expected = attest.Expected(
        order=order,
        image=Image(),
        uid=os.getuid(),
        own_namespaces=attest.own_namespaces(),
        program_digest=digest(b""),
    )
    with subprocess.Popen(["sh", "-c", "echo; read -r _"], env={"SECRET": "x"}, **PIPES) as process:
        assert process.stdout is not None
        process.stdout.readline()  # before that it may still be on its way into the program
        launch = launched(process.pid)
        properties = attest.sandbox(launch, expected)
        process.kill()
    held = {name for name, one in properties.items() if one.known in (Known.OBSERVED, Known.PROBED)}
    assert held <= {"user"}  # an ordinary user is truly no root; everything else must not pass
    assert Attestation(mechanism="x", properties=properties).confinement is ConfinementClass.LOCAL_WEAK


def test_proof_accepts_nothing_when_the_process_is_gone(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    expected = attest.Expected(
        order=ProcessOrder(argv=("true",), workspace=str(tmp_path)),
        image=Image(),
        uid=os.getuid(),
        own_namespaces=attest.own_namespaces(),
        program_digest=digest(b""),
    )
    launch = launched(process.pid)
    properties = attest.sandbox(launch, expected)
    known = {one.known for name, one in properties.items() if name not in ("landlock", "syscall-program")}
    assert known == {Known.ABSENT}


def test_self_test_lowers_or_lifts_a_property_when_it_has_spoken():
    properties = {
        "files": Property(value="v", known=Known.OBSERVED),
        "landlock": Property(value="v", known=Known.CONFIGURED),
        "network": Property(value="v", known=Known.ABSENT),
    }
    judged = attest.judged(
        Attestation(mechanism="m", properties=properties),
        {"files": False, "landlock": True, "network": True, "other": True},
    ).properties
    assert judged["files"].known is Known.ABSENT
    assert judged["landlock"].known is Known.PROBED
    assert judged["network"].known is Known.ABSENT
    assert "other" not in judged


# ------------------------------------------------------------------------------------------------- the room from inside


def test_room_holds_three_descriptors_when_the_program_starts(lane, place):
    program = "import os, json; print(json.dumps(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1]))"
    assert json.loads(lane.run(place.python(program))["value"]["stdout"]) == [0, 1, 2]


def test_room_shows_only_itself_when_processes_are_listed(lane, place):
    program = "import os; print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))"
    assert lane.run(place.python(program))["value"]["stdout"] == "[1, 2]\n"


def test_warden_cannot_be_read_when_the_program_tries(lane, place):
    program = (
        "import os\nfor name in ('mem', 'environ', 'maps', 'fd'):\n"
        "  try: print((os.listdir if name == 'fd' else open)(f'/proc/1/{name}'))\n"
        "  except OSError: pass\nprint('done')"
    )
    assert lane.run(place.python(program))["value"]["stdout"] == "done\n"


def test_warden_survives_when_the_program_signals_it(lane, place):
    outcome = lane.run(place.order("sh", "-c", "kill -9 1; kill -STOP 1; kill -SEGV 1; echo alive"))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "alive\n")


def test_root_is_read_only_when_the_program_writes_where_it_may_not(lane, place):
    program = (
        "for f in /x /etc/x /usr/x /dev/x /proc/x; do echo x > $f && echo wrote $f; done;"
        "touch /tmp/ok /dev/shm/ok && echo fine"
    )
    assert lane.run(place.order("sh", "-c", program))["value"]["stdout"] == "fine\n"


def test_private_tmp_is_bounded_and_forgotten_when_the_run_ends(lane, place):
    fill = "head -c 3000000 /dev/zero > /tmp/a; head -c 3000000 /dev/zero > /tmp/b; cat /tmp/* | wc -c"
    first = lane.run(place.order("sh", "-c", fill, limits={"file_bytes_max": 4_000_000}))
    assert int(first["value"]["stdout"]) <= 4_000_000
    assert lane.run(place.order("sh", "-c", "ls -A /tmp"))["value"]["stdout"].split()[0] != "a"


def test_set_user_id_bit_cannot_be_set_when_files_land_as_somebody_elses(lane, place):
    program = (
        "import os\nopen('f', 'w').close()\n"
        "for what in (lambda: os.chmod('f', 0o4755), lambda: os.chmod('f', 0o2755),\n"
        "  lambda: os.open('g', os.O_CREAT | os.O_WRONLY, 0o6755), lambda: os.mknod('h', 0o104755)):\n"
        "  try: what(); print('done')\n  except PermissionError: pass"
    )
    outcome = lane.run(place.python(program))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "")
    assert not [path for path in place.workspace.iterdir() if path.stat().st_mode & 0o6000]


def test_spawner_is_not_root_and_holds_no_secret_when_a_program_asks_who_it_is(lane, place):
    outcome = lane.run(place.order("sh", "-c", "sleep 0.2"), announce=False)
    uid = int(outcome["evidence"]["attestation"]["properties"]["user"]["value"].split()[1])
    spawners = [
        path
        for path in Path("/proc").glob("[0-9]*")
        if b"import spawner" in _read(path / "cmdline") and str(lane.pid).encode() in _read(path / "cmdline")
    ]
    assert len(spawners) == 1
    assert spawners[0].stat().st_uid == uid != 0
    assert _read(spawners[0] / "environ") == b""
    if lane.user == "root":
        assert privileged.UID_FIRST <= uid < privileged.UID_FIRST + privileged.UID_COUNT


def test_python_environment_is_read_only_when_it_lies_inside_the_workspace(lane, place):
    # The deepest folder decides: a read-only one keeps being so below a writable workspace.
    may_write = {"/w": True, "/w/.venv": False}
    assert attest._foreseen("/w", ["rw"], may_write)
    assert not attest._foreseen("/w/.venv", ["rw"], may_write)
    assert attest._foreseen("/w/.venv", ["ro"], may_write)
    assert not attest._foreseen("/elsewhere", ["ro"], may_write)


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
