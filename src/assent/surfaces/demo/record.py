"""The record: told as a timeline, verified as it is, and verified again with one byte changed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from assent.surfaces.cli.paper import Span, Tone
from assent.surfaces.cli.ports import House
from assent.surfaces.cli.telling.records import tell_timeline
from assent.surfaces.demo.grounds import DATABASE, LOG_KEY, VERIFIER
from assent.surfaces.demo.promises import expect
from assent.surfaces.demo.scene import Scene

COPY = "changed-by-one-byte.db"
VERIFY_S = 15
_VERIFIED, _TAMPERED = 0, 1


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the stand-alone verifier said: its exit status and its report."""

    status: int
    report: dict[str, Any]


async def tell_the_story(scene: Scene, house: House) -> None:
    """The timeline of everything, in the log's order, without a gap."""
    scene.begin("What the record says")
    moments = await house.timelines.latest(scene.tenant)
    seqs = [moment.seq for moment in moments]
    expect(seqs == list(range(len(seqs))), "entries without a gap", found=seqs)
    told = {moment.effect for moment in moments}
    missing = [step.name for step in scene.steps if step.effect and step.effect not in told]
    expect(not missing, "every step in the record", found=f"missing: {missing}")
    tell_timeline(scene.paper, moments)
    scene.end("timeline", "told", entries=len(moments), types=sorted({m.type for m in moments}))


async def verify(scene: Scene, house: House) -> tuple[int, int]:
    """Assent's own verification: the log, and every row beside it. Returns how many entries there are, and which one
    of them is the person's first answer."""
    scene.begin("The record is verified")
    verified = await scene.desk.verification().verify(scene.tenant)
    expect(verified.ok, "a record that verifies", found=[str(fault) for fault in verified.faults])
    moments = await house.timelines.latest(scene.tenant)
    expect(verified.entries == len(moments), f"{len(moments)} verified entries", found=verified.entries)
    scene.paper.line(
        Span("verified", Tone.GOOD),
        f"  {verified.entries} entries, {verified.effects} effects and {verified.payloads} payloads in"
        f" {verified.duration_ms} ms",
        indent=3,
    )
    scene.end(
        "verify", "verified", entries=verified.entries, effects=verified.effects,
        payloads=verified.payloads, checkpoints=verified.checkpoints, duration_ms=verified.duration_ms,
    )  # fmt: skip
    return len(moments), next(moment.seq for moment in moments if moment.type == "review.answered")


async def verify_alone(scene: Scene, *, entries: int) -> None:
    """The verifier script, run alone in its own Python, agrees."""
    verdict = await _run_verifier(scene, (scene.folder / DATABASE))
    sizes = [log["size"] for log in verdict.report["tenants"]]
    agrees = verdict.status == _VERIFIED and verdict.report["verdict"] == "verified" and sizes == [entries]
    expect(agrees, f"that the stand-alone verifier finds {entries} good entries", found=verdict)
    scene.paper.line(
        Span("verified", Tone.GOOD), f"  again by {VERIFIER}, which uses nothing of Assent: {sizes[0]} entries, root"
        f" {verdict.report['tenants'][0]['root'][:12]}…", indent=3,
    )  # fmt: skip
    scene.end("verify_alone", "verified", **verdict.report)


async def verify_changed(scene: Scene, *, seq: int) -> None:
    """A copy in which one byte says that somebody else approved does not verify, and the verifier says where."""
    copy = scene.folder / COPY
    before, after = change_approver(scene, copy, seq=seq)
    verdict = await _run_verifier(scene, copy)
    for left in ("-shm", "-wal"):  # what SQLite leaves beside a file it only read
        copy.with_name(copy.name + left).unlink(missing_ok=True)
    failure = verdict.report["failure"] or {}
    noticed = verdict.status == _TAMPERED and verdict.report["verdict"] == "tampered"
    expect(noticed, "that a copy with one byte changed does not verify", found=verdict)
    place = (failure.get("table"), failure.get("tenant"), failure.get("seq"))
    expect(place == ("log", scene.tenant, seq), f"the fault at entry {seq} of the log", found=failure)
    scene.paper.line(
        Span("tampered", Tone.BAD), f"  a copy with one byte changed, so that {after} answered instead of {before}:"
        f" {failure['table']}, entry {failure['seq']}: {failure['reason']}", indent=3,
    )  # fmt: skip
    scene.end("verify_changed", "tampered", before=before, after=after, copy=str(copy), **failure)


def change_approver(scene: Scene, copy: Path, *, seq: int) -> tuple[str, str]:
    """Copy the database with the first letter of the approver's name changed in entry `seq`; both names."""
    data = bytearray((scene.folder / DATABASE).read_bytes())
    end = data.rfind(b'"seq":%d,"tenant":"%b","type":"review.answered"' % (seq, scene.tenant.encode()))
    field = b'"by":"'
    start = data.rfind(field, 0, max(end, 0)) + len(field)
    name = bytes(data[start : data.index(b'"', start)]).decode()
    expect(name == scene.person, f"the approval by {scene.person} in entry {seq}", found=name)
    place = start + name.index(":") + 1
    data[place] = ord("x") if data[place] != ord("x") else ord("y")
    copy.write_bytes(data)
    return name, bytes(data[start : start + len(name)]).decode()


async def _run_verifier(scene: Scene, database: Path) -> Verdict:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(scene.folder / VERIFIER), str(database), "--key", _log_key(scene),
        "--json", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(VERIFY_S):
            said, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    expect(process.returncode in (_VERIFIED, _TAMPERED), "a verdict", found=complained.decode(errors="replace"))
    assert process.returncode is not None
    return Verdict(status=process.returncode, report=msgspec.json.decode(said))


def _log_key(scene: Scene) -> str:
    return (scene.folder / LOG_KEY).read_text(encoding="ascii").strip()
