"""SIGKILL in the middle of an effect: what the record says afterwards, and how the truth is found without a second try.

The server has received and stored the document and keeps back its answer. The process that sent it is killed there, at
the one moment when nobody on this side can know. A new node finds the effect dispatched by a process that is gone.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from assent.ledger.effects import Effect, EffectState
from assent.ledger.reviews import Review
from assent.operations.timelines import Explanation, Moment
from assent.operations.wishes import Wish
from assent.primitives.digests import digest
from assent.surfaces.cli.paper import Span, Tone
from assent.surfaces.cli.ports import House
from assent.surfaces.cli.telling.calls import short
from assent.surfaces.demo.calls import Release
from assent.surfaces.demo.consent import MARKDOWN, ask_first, published_at, refuse
from assent.surfaces.demo.promises import PromiseBroken, expect
from assent.surfaces.demo.scene import Scene

NAME = "crash"
DEATH_S = 10
_COMMAND = "from assent.surfaces.cli.main import main; main()"  # `assent`, wherever it is installed


class Announcement:
    """The second document on its way: one wish with an idempotency key, one path on the server."""

    def __init__(self, scene: Scene, release: Release, text: str) -> None:
        self.path = published_at(release, "announcement.md")
        self.digest = digest(text.encode())
        arguments = {"url": scene.site.url(self.path), "body": text, "content_type": MARKDOWN}
        self.wish: Wish = scene.wish("http.put", arguments, key=f"announce-{release.version}")


async def ask_to_announce(scene: Scene, house: House, announcement: Announcement) -> Review | None:
    """A second publication, which a person must approve like the first. None when they say no."""
    scene.begin("The helper publishes an announcement, and is killed in the middle of it")
    await scene.site.hold(announcement.path)
    _, review = await ask_first(scene, house, announcement.wish, announcement.path)
    if await scene.asked.ask("Do you approve this one too?"):
        return review
    await refuse(scene, house, review, announcement.path)
    scene.notice("you said no, so there was nothing to kill")
    scene.end(NAME, "denied", effect=review.effect, review=review.id, requests=0)
    return None


async def kill_in_the_middle(scene: Scene, review: Review, announcement: Announcement) -> int:
    """Let another process carry the approved call out, and kill it while the server keeps back the answer."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", _COMMAND,
        "approve", review.id, "--reason", scene.asked.reason, "--folder", str(scene.folder),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        await _caught(scene, process, announcement)
        process.kill()
        async with asyncio.timeout(DEATH_S):
            ended = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    expect(ended == -signal.SIGKILL, "a process that ended by SIGKILL", found=f"status {ended}")
    await scene.site.release()
    stored, count = await scene.site.document(announcement.path), await scene.site.count("PUT", announcement.path)
    expect(stored == announcement.digest and count == 1, "the document on the server, sent once", found=(stored, count))
    scene.paper.line(
        Span("killed", Tone.BAD),
        f"  process {process.pid} sent the document and waited for the answer: SIGKILL. The server has stored it"
        f" (requests: {count}); on this side nobody was told.",
        indent=3,
    )
    return process.pid


async def settle(scene: Scene, house: House, review: Review, announcement: Announcement, *, pid: int) -> None:
    """A new node: the effect is unknown, is settled by looking, and is not done a second time."""
    lost = await _expect_unknown(scene, house, review, announcement)
    told = await _look(scene, house, review, announcement)
    await _repeat(house, told.effect, announcement)
    count = await scene.site.count("PUT", announcement.path)
    expect(count == 1, "still exactly one request at the server", found=count)
    scene.paper.line(
        Span("once", Tone.GOOD), f"  the same call with the same key did nothing; requests at the server: {count}",
        indent=3,
    )  # fmt: skip
    scene.end(
        NAME, "settled", effect=review.effect, killed_pid=pid, key=announcement.wish.key, review=review.id,
        unknown_at_seq=lost.seq, unknown_code=lost.facts["code"], settled_at_seq=told.moments[-1].seq,
        settled_as=told.effect.code, state=told.effect.state, observed_by=told.moments[-1].facts["by"],
        requests=count, looks=await scene.site.count("GET", announcement.path), stored=announcement.digest,
    )  # fmt: skip


async def _caught(scene: Scene, process: asyncio.subprocess.Process, announcement: Announcement) -> None:
    """Wait until the server holds the document and the sender waits. The sender must not end before."""
    caught = asyncio.ensure_future(scene.site.caught(announcement.path))  # noqa: TID251 (both are awaited here)
    ended = asyncio.ensure_future(process.wait())  # noqa: TID251 (as above)
    try:
        await asyncio.wait([caught, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            assert process.stderr is not None
            said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            last = said[-1] if said else "nothing said"
            raise PromiseBroken("a process that is in the middle of it", found=f"status {ended.result()}: {last}")
        expect(await caught, "the document at the server", found="nothing within the time")
    finally:
        caught.cancel()
        ended.cancel()
        await asyncio.wait([caught, ended])


async def _expect_unknown(scene: Scene, house: House, review: Review, announcement: Announcement) -> Moment:
    told = await house.timelines.explain(scene.tenant, review.effect)
    lost = told.moments[-1]
    unknown = told.effect.state is EffectState.UNKNOWN and lost.type == "effect.lost"
    expect(unknown, "an effect whose outcome is unknown", found=f"{told.effect.state}, last entry {lost.type}")
    count = await scene.site.count("PUT", announcement.path)
    expect(count == 1, "that an unknown effect is not sent again", found=f"{count} requests")
    scene.paper.line(
        Span("unknown", Tone.LOST),
        f"  a new node starts. Entry {lost.seq} of the log, {lost.type}: node {short(lost.facts['node'])} is gone"
        f" ({lost.facts['code']}), attempt {lost.facts['attempt']} may have happened",
        indent=3,
    )
    return lost


async def _look(scene: Scene, house: House, review: Review, announcement: Announcement) -> Explanation:
    """Recovery looks at the server with a GET, through the same gate, and compares the bytes."""
    await house.recovery.reconcile(scene.tenant)
    told = await house.timelines.explain(scene.tenant, review.effect)
    judged = told.moments[-1]
    settled = told.effect.state is EffectState.SUCCEEDED and judged.type == "effect.judged"
    expect(settled, "an effect settled by looking", found=f"{told.effect.state} ({told.effect.code})")
    looks = await scene.site.count("GET", announcement.path)
    expect(looks == 1, "one look at the server", found=f"{looks}")
    look = await house.timelines.explain(scene.tenant, judged.facts["by"])
    seen = look.outcome.evidence.digests.get("response_body") if look.outcome else None
    expect(seen == announcement.digest, "the bytes that were sent", found=seen)
    scene.paper.line(
        Span("settled", Tone.GOOD),
        f"  by looking: {look.effect.operation} (effect {short(look.effect.id)}) brought back"
        f" {announcement.digest[:19]}…, the bytes that were sent: it {judged.facts['code'].replace('_', ' ')}",
        indent=3,
    )
    return told


async def _repeat(house: House, effect: Effect, announcement: Announcement) -> None:
    again = await house.gate.perform(announcement.wish)
    same = not again.fresh and again.effect.id == effect.id
    expect(same, f"the effect {effect.id} that the key already has", found=f"{again.effect.id}, fresh: {again.fresh}")
