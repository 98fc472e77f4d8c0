"""A real sshd on loopback: own configuration, own host key, own port, and everything in one folder.

It runs as whoever runs the tests and accepts that user's key made for it; nothing of the system is changed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from assent.execution.adapters.ssh import Access
from tests.components import need

SSHD = "/usr/sbin/sshd"
START_S = 20.0
_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
LogLevel VERBOSE
"""


class SshSite:
    """One sshd, and a host's side of it: a workspace."""

    def __init__(self) -> None:
        need("openssh-server", "openssh-client")
        self.folder = Path(tempfile.mkdtemp(prefix="assent-ssh-")).resolve()
        self.workspace = self.folder / "work here"
        self.workspace.mkdir()
        self.port = _free_port()
        for name in ("host_key", "identity"):
            self.make_key(name)
        shutil.copy(self.folder / "identity.pub", self.folder / "authorized_keys")
        self.know(self.folder / "host_key.pub")
        config = self.folder / "sshd_config"
        config.write_text(_CONFIG.format(port=self.port, folder=self.folder), encoding="utf-8")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # the daemon's own empty folder, gone at every boot
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        log = (self.folder / "log").open("ab")
        self.daemon = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log, start_new_session=True
        )
        log.close()
        end = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            assert self.daemon.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < end, "sshd does not listen"
            time.sleep(0.02)

    @property
    def access(self) -> Access:
        """How it is reached."""
        return Access(
            host="127.0.0.1",
            port=self.port,
            user=pwd.getpwuid(os.geteuid()).pw_name,
            identity=str(self.folder / "identity"),
            known_hosts=str(self.folder / "known_hosts"),
            workspace=str(self.workspace),
        )

    def make_key(self, name: str) -> Path:
        """A new key pair in the folder."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    def know(self, public: Path) -> None:
        """Make `public` the one host key that is known."""
        kind, key, *_ = public.read_text(encoding="ascii").split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n", encoding="ascii")

    def sessions(self) -> list[int]:
        """The daemon's processes that serve connections."""
        found = []
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = int((path / "stat").read_bytes().rpartition(b")")[2].split()[1])
                    if parent == self.daemon.pid:
                        found.append(int(path.name))
        return found

    def end(self) -> None:
        """Stop it, with every session it has."""
        for pid in [*self.sessions(), self.daemon.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemon.wait()

    def close(self) -> None:
        """Stop it and remove the folder."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
