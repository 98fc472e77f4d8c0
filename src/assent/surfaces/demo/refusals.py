"""What the helper may not do: delete a folder outside the workspace, upload to another host."""

from __future__ import annotations

import socket

from assent.surfaces.cli.ports import House
from assent.surfaces.demo.calls import REPORT
from assent.surfaces.demo.grounds import fingerprint
from assent.surfaces.demo.listening import knocks, listening
from assent.surfaces.demo.promises import expect
from assent.surfaces.demo.scene import Scene
from assent.surfaces.demo.verdicts import decided, expect_refused, reason, rules

PHOTOS = "../photos"
KNOCK_S = 5


async def delete_photos(scene: Scene, house: House) -> None:
    """Nothing outside the workspace is touched."""
    scene.begin("The helper wants to delete a folder outside the workspace")
    photos = scene.desk.place.workspace / PHOTOS
    before = fingerprint(photos)
    answer = await decided(scene, house, scene.wish("files.delete", {"path": PHOTOS, "recursive": True}))
    expect_refused(answer, "workspace-only")
    after = fingerprint(photos)
    expect(bool(before) and after == before, f"the photos as they were, {sorted(before)}", found=sorted(after))
    scene.paper.line(f"photos/ is still there: {len(after)} files, unchanged", indent=3)
    scene.end(
        "delete", "refused", effect=answer.effect.id, rules=rules(answer),
        reason=reason(answer), files=after,
    )  # fmt: skip


async def upload_elsewhere(scene: Scene, house: House, text: str) -> None:
    """A host that no rule allows is not even dialled: somebody listens there, and nobody knocks."""
    scene.begin("The helper wants to upload the report to another host")
    with listening() as canary:
        host, port = canary.getsockname()
        wish = scene.wish("http.put", {"url": f"http://{host}:{port}/{REPORT}", "body": text})
        answer = await decided(scene, house, wish)
        counted = knocks(canary)
        expect_refused(answer, "release-server-only")
        expect(counted == 0, f"that nobody connects to {host}:{port}", found=f"{counted} connections")
        with socket.create_connection((host, port), timeout=KNOCK_S):
            heard = knocks(canary)
        expect(heard == 1, "a listener that notices a connection when there is one", found=f"{heard} connections")
    scene.paper.line(f"before a socket was opened: a listener on {host}:{port} counted {counted} connections", indent=3)
    scene.end(
        "upload", "refused", effect=answer.effect.id, rules=rules(answer), reason=reason(answer),
        host=f"{host}:{port}", connections=counted, connections_when_knocked=heard,
    )  # fmt: skip
