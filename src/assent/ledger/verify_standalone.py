"""Verify an Assent log with nothing but this file, Python 3.11 and the log's public key.

    python verify_standalone.py DB --key VKEY [--tenant T] [--checkpoint FILE] [--json]

Copy the file anywhere and read it whole: it imports nothing but the standard library. It opens the SQLite database
read-only, in one snapshot, and checks for every tenant that
  - the entries run from 0 without a gap, each names its own place, its tenant and the hash of the entry before it, and
    every stored leaf and node hash is the one the entries give (RFC 6962, SHA-256);
  - the signed head in `log_heads` covers exactly these entries, and every stored checkpoint a beginning of them, all
    signed by VKEY (C2SP signed notes, Ed25519);
  - so does every trusted checkpoint in FILE: notes, one after the other, that were kept where the log's writer has no
    reach. Without one, a log cut back to an older signed head passes, and so does a database without a whole tenant.
The first thing that does not hold is named. Exit status: 0 verified, 1 tampered, 2 could not be asked that way.
"""

# ruff: noqa: S608  # the SQL is put together from this file's own names of tables and columns only

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import heapq
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

TABLES = ("log", "log_nodes", "log_heads", "checkpoints")
FIELDS = {"at", "body", "prev", "seq", "tenant", "type", "v"}
NOTE = re.compile("([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]+=*)\n\n((?:\u2014 [^\n ]+ [A-Za-z0-9+/]+=*\n)+)")
sha256 = hashlib.sha256


class Tampered(Exception):
    """The first thing that does not hold: where it stands, and what is wrong with it."""

    def __init__(self, table: str, tenant: object, seq: int | None, reason: str) -> None:
        super().__init__(f"{table}, tenant {tenant}" + ("" if seq is None else f", seq {seq}") + f": {reason}")
        self.place = {"table": table, "tenant": str(tenant), "seq": seq, "reason": reason}


class Key(NamedTuple):
    """A verifier key."""

    name: str
    id: bytes
    public: bytes


class Claim(NamedTuple):
    """Somebody's word about the first `size` entries: a note, not yet read, and where it stands."""

    size: int
    table: str
    note: str


def read_key(vkey: str) -> Key:
    """Read `name+key id+base64(0x01 and the key)`; ValueError if it is not that."""
    match = re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", vkey.strip())
    raw = base64.b64decode(match[3]) if match else b""
    found = sha256((match[1] if match else "").encode() + b"\n" + raw).digest()[:4]
    if not match or raw[0] != 1 or found.hex() != match[2]:
        raise ValueError("this is not a verifier key, one reads `name+8 hex digits+base64`")
    return Key(match[1], found, raw[1:])


def read_note(note: object, key: Key) -> tuple[str, int, bytes]:
    """Return origin, size and root of a checkpoint that `key` signed; otherwise ValueError says what is wrong."""
    match = NOTE.fullmatch(note) if isinstance(note, str) else None
    if match is None:
        raise ValueError("this is not a signed checkpoint")
    lines = [line.split(" ") for line in match[4].split("\n")[:-1]]
    raw = [base64.b64decode(encoded, validate=True) for _, name, encoded in lines if name == key.name]
    mine = [signature[4:] for signature in raw if signature[:4] == key.id]
    if not mine:
        raise ValueError(f"the checkpoint is not signed by {key.name}+{key.id.hex()}")
    text = "".join(f"{line}\n" for line in match.groups()[:3]).encode()
    if not all(ed25519_holds(key.public, text, signature) for signature in mine):
        raise ValueError("the signature is false: the checkpoint was changed or forged")
    return match[1], int(match[2]), base64.b64decode(match[3], validate=True)


def read_trusted(file: str, key: Key) -> Iterator[tuple[str, Claim]]:
    """The tenant and claim of each note in `file`; ValueError if it is not a file of notes."""
    text = Path(file).read_text(encoding="utf-8").lstrip("\n")
    if not text:
        raise ValueError(f"{file} holds no checkpoint")
    while text:
        match = NOTE.match(text)
        if not match:
            raise ValueError(f"{file}: {text[:60]!a} does not begin a checkpoint")
        yield match[1].removeprefix(key.name + "/"), Claim(int(match[2]), file, match[0])
        text = text[match.end() :].lstrip("\n")


class Log:
    """One tenant's log, read from its first entry to its last."""

    def __init__(self, db: sqlite3.Connection, key: Key, tenant: str, trusted: list[Claim]) -> None:
        self.db, self.key, self.tenant, self.trusted = db, key, tenant, sorted(trusted)
        self.size, self.held = 0, 0  # entries read, and how many of them a checkpoint confirmed
        self.peaks: list[bytes] = []
        self.levels: list[sqlite3.Cursor] = []  # the stored nodes of level 1, 2, …, in order

    def check(self) -> dict[str, Any]:
        """Check all there is about the tenant and return what was found."""
        claims = heapq.merge(self.stored(), self.trusted, key=lambda claim: claim.size)
        due = self.settle(next(claims, None), claims)
        leaf = bytes(32)
        for seq, entry, stored in self.rows("seq, entry, leaf", "log", "ORDER BY seq"):
            if seq != self.size:
                self.fail("log", self.size, f"the entry is missing, the next row is {seq!r}")
            leaf = self.check_entry(entry, stored, leaf.hex())
            self.append(leaf)
            if due and due.size == self.size:
                due = self.settle(due, claims)
        if due:
            self.fail("log", self.size, f"the entry is missing: a checkpoint in {due.table} covers {due.size} entries")
        self.check_head()
        (nodes,), complete = self.rows("count(*)", "log_nodes").fetchone(), self.size - self.size.bit_count()
        if nodes != complete:
            self.fail("log_nodes", None, f"there are {nodes} nodes, {self.size} entries make {complete}")
        trusted = self.trusted[-1].size if self.trusted else None
        return {"tenant": self.tenant, "size": self.size, "root": self.root().hex(), "trusted_size": trusted}

    def check_entry(self, entry: object, stored: object, prev: str) -> bytes:
        """Check one row against its place and return its leaf hash."""
        if type(entry) is not bytes:
            self.fail("log", self.size, "the entry is not a blob")
        leaf = sha256(b"\0" + entry).digest()
        if leaf != stored:
            self.fail("log", self.size, "the entry does not hash to the stored leaf")
        try:
            fields = json.loads(entry.decode())
        except (ValueError, RecursionError):
            fields = None
        if type(fields) is not dict or fields.keys() != FIELDS or fields["v"] != 1:
            self.fail("log", self.size, "the entry is not a JSON object with the fields of version 1")
        if fields["seq"] != self.size:
            self.fail("log", self.size, f"the entry was written as number {fields['seq']!r}")
        if fields["tenant"] != self.tenant:
            self.fail("log", self.size, f"the entry was written for tenant {fields['tenant']!r}")
        if fields["prev"] != prev:
            self.fail("log", self.size, "the entry does not continue the one before it")
        return leaf

    def append(self, digest: bytes) -> None:
        """Add a leaf to the tree and compare each node it completes with the stored one."""
        index, level = self.size, 0
        while index & 1:
            digest = sha256(b"\1" + self.peaks.pop() + digest).digest()
            index, level = index >> 1, level + 1
            if level > len(self.levels):
                self.levels.append(self.rows("idx, hash", "log_nodes", "AND level = ? ORDER BY idx", level))
            if self.levels[level - 1].fetchone() != (index, digest):
                self.fail("log_nodes", self.size, f"node {index} of level {level} is not what the entries give")
        self.peaks.append(digest)
        self.size += 1

    def root(self) -> bytes:
        """The root of the entries read so far."""
        if not self.peaks:
            return sha256(b"").digest()
        return functools.reduce(lambda right, left: sha256(b"\1" + left + right).digest(), reversed(self.peaks))

    def stored(self) -> Iterator[Claim]:
        """The claims of the table `checkpoints`."""
        for size, note in self.rows("size, note", "checkpoints", "ORDER BY size"):
            if type(size) is not int or size < 0:
                self.fail("checkpoints", None, f"{size!r} is not a size")
            yield Claim(size, "checkpoints", note)

    def settle(self, due: Claim | None, claims: Iterator[Claim]) -> Claim | None:
        """Compare all claims about the present size with the entries and return the next claim."""
        while due and due.size == self.size:
            self.compare(due)
            self.held, due = self.size, next(claims, None)
        return due

    def compare(self, claim: Claim) -> None:
        """Fail unless the log's key signed the note and the note says what the entries say."""
        try:
            origin, size, root = read_note(claim.note, self.key)
        except ValueError as error:
            self.fail(claim.table, claim.size, str(error))
        if (origin, size) != (f"{self.key.name}/{self.tenant}", claim.size):
            self.fail(claim.table, claim.size, f"the checkpoint is about {size} entries of {origin!r}")
        if root != self.root():
            reason = f"the first {size} entries do not hash to the signed root, the first {self.held} do"
            self.fail(claim.table, size, reason)

    def check_head(self) -> None:
        """Fail unless the one signed head covers the entries and no others."""
        heads = self.rows("size, note", "log_heads").fetchall()
        if len(heads) != 1 or type(heads[0][0]) is not int:
            self.fail("log_heads", None, "there is no signed head, or not one with a size")
        size, note = heads[0]
        if size != self.size:
            what = "is missing" if size > self.size else "is not covered"
            self.fail("log", min(size, self.size), f"the entry {what}: the signed head covers {size} entries")
        self.compare(Claim(size, "log_heads", note))

    def rows(self, columns: str, table: str, rest: str = "", *more: object) -> sqlite3.Cursor:
        """The tenant's rows of a table."""
        return self.db.execute(f"SELECT {columns} FROM {table} WHERE tenant = ? {rest}", (self.tenant, *more))

    def fail(self, table: str, seq: int | None, reason: str) -> NoReturn:
        """Stop at this place."""
        raise Tampered(table, self.tenant, seq, reason)


def verify(db: sqlite3.Connection, key: Key, tenant: str | None, trusted: list[tuple[str, Claim]]) -> dict[str, Any]:
    """Check one tenant, or all there are anywhere, and report; Tampered at the first fault."""
    db.execute("BEGIN")  # one snapshot, so that a live writer does not look like a fault
    names = {row[0] for table in TABLES for row in db.execute(f"SELECT DISTINCT tenant FROM {table}")}
    for name in names:
        if not isinstance(name, str):
            raise Tampered("log", repr(name), None, "this is not the name of a tenant")
    names = names | {name for name, _ in trusted} if tenant is None else {tenant}
    found = [Log(db, key, name, [claim for of, claim in trusted if of == name]).check() for name in sorted(names)]
    return {"verdict": "verified", "tenants": found, "failure": None, "warnings": list(warnings(found))}


def warnings(found: list[dict[str, Any]]) -> Iterator[str]:
    """What a pass does not show."""
    only = "only with a checkpoint kept elsewhere"
    if all(log["trusted_size"] is None for log in found):
        yield f"truncation to an older signed head, and the loss of a whole tenant, show {only} (--checkpoint)"
        return
    for log in found:
        if log["trusted_size"] is None:
            yield f"{log['tenant']}: truncation to an older signed head shows {only}, FILE has none"
        elif log["trusted_size"] < log["size"]:
            yield f"{log['tenant']}: truncation after entry {log['trusted_size']} shows {only}, FILE has no newer one"


def main(arguments: list[str] | None = None) -> int:
    """Answer on standard output; the exit status is in the first lines of this file."""
    parser = argparse.ArgumentParser(description="Verify the log in an Assent database.")
    parser.add_argument("database", help="the SQLite file")
    parser.add_argument("--key", required=True, help="the log's verifier key, `name+id+base64`")
    parser.add_argument("--tenant", help="check this tenant only")
    parser.add_argument("--checkpoint", help="a file of trusted checkpoints, kept elsewhere")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    options = parser.parse_args(arguments)
    try:
        key = read_key(options.key)
        trusted = list(read_trusted(options.checkpoint, key)) if options.checkpoint else []
        address = Path(options.database).resolve(strict=True).as_uri() + "?mode=ro"
        db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=1)
    except (ValueError, OSError, sqlite3.OperationalError) as error:
        parser.error(str(error))
    try:
        report = verify(db, key, options.tenant, trusted)
    except Tampered as fault:
        report = {"verdict": "tampered", "tenants": [], "failure": fault.place, "warnings": []}
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_CANTOPEN")):
            parser.error(str(error))
        failure = {"table": "database", "tenant": "", "seq": None, "reason": f"it cannot be read: {error}"}
        report = {"verdict": "tampered", "tenants": [], "failure": failure, "warnings": []}
    finally:
        db.close()
    sys.stdout.write((json.dumps(report) if options.json else prose(report)) + "\n")
    return 0 if report["verdict"] == "verified" else 1


def prose(report: dict[str, Any]) -> str:
    """The report for people; its last line is the verdict."""
    lines = [f"tenant {log['tenant']}: {log['size']} entries, root {log['root']}" for log in report["tenants"]]
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    if report["failure"]:
        lines += [f"{name}: {value}" for name, value in report["failure"].items() if value not in (None, "")]
    lines.append(str(report["verdict"]).upper())
    return "\n".join(re.sub("[^ -~]", "?", line) for line in lines)  # a name must not draw on the reader's terminal


# Ed25519 verification as in RFC 8032, section 5.1.7, in plain integers: for public data only, about a millisecond each.

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]  # extended homogeneous coordinates
ZERO: Point = (0, 1, 1, 0)


def ed25519_holds(public: bytes, text: bytes, signature: bytes) -> bool:
    """Whether `signature` over `text` was made with the private half of `public`."""
    point, s = decompress(public), int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + text).digest(), "little") % ORDER
    x, y, z, _ = add(times(s, BASE), times(ORDER * 8 - k, point))  # minus k times: eight orders are zero for any point
    x, y = x * pow(z, -1, P) % P, y * pow(z, -1, P) % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def add(a: Point, b: Point) -> Point:
    """The sum of two points."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2]
    e, f, g, h = (n - m) % P, (d - c) % P, (d + c) % P, (n + m) % P
    return e * f % P, g * h % P, f * g % P, e * h % P


@functools.lru_cache(maxsize=4)
def doubles(point: Point) -> list[Point]:
    """The point times every power of two that a factor can hold: worked out once for each key."""
    found = [point]
    while len(found) < 256:
        found.append(add(found[-1], found[-1]))
    return found


def times(factor: int, point: Point) -> Point:
    """The point `factor` times."""
    bits = bin(factor)[:1:-1]
    return functools.reduce(
        add, (double for double, bit in zip(doubles(point), bits, strict=False) if bit == "1"), ZERO
    )


@functools.lru_cache(maxsize=4)
def decompress(data: bytes) -> Point | None:
    """The point that 32 bytes stand for, or None."""
    y, sign = int.from_bytes(data, "little") & ((1 << 255) - 1), data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


BASE = decompress((4 * pow(5, -1, P) % P).to_bytes(32, "little")) or ZERO

if __name__ == "__main__":
    sys.exit(main())
