"""The story, in order. Each step checks what it tells; the first claim that does not hold ends it."""

from __future__ import annotations

from assent.surfaces.demo.calls import announcement, read_change_log, report, run_tests, write_report
from assent.surfaces.demo.consent import publish_report
from assent.surfaces.demo.crash import Announcement, ask_to_announce, kill_in_the_middle, settle
from assent.surfaces.demo.letters import answer_letters
from assent.surfaces.demo.record import tell_the_story, verify, verify_alone, verify_changed
from assent.surfaces.demo.refusals import delete_photos, upload_elsewhere
from assent.surfaces.demo.scene import Scene


async def play(scene: Scene) -> None:
    """Play the whole story.

    Raises:
        PromiseBroken: something happened otherwise than told.
        AssentError: the node could not do its work at all.
    """
    async with scene.desk.open(drift=False) as house:  # it is put in force now
        await house.policies.activate(scene.tenant, scene.desk.policy_text().text, by=scene.person)
        release = await read_change_log(scene, house)
        text = report(scene, release, await run_tests(scene, house))
        await write_report(scene, house, text)
        await publish_report(scene, house, release, text)
        await delete_photos(scene, house)
        await upload_elsewhere(scene, house, text)
        second = Announcement(scene, release, announcement(release))
        review = await ask_to_announce(scene, house, second)
    pid = await kill_in_the_middle(scene, review, second) if review else 0
    async with scene.desk.open() as house:
        if review:
            await settle(scene, house, review, second, pid=pid)
    await answer_letters(scene)
    async with scene.desk.open() as house:
        await tell_the_story(scene, house)
        entries, first_answer = await verify(scene, house)
    await verify_alone(scene, entries=entries)
    await verify_changed(scene, seq=first_answer)
