"""Ids as people type them: whole, or any part of at least four characters that fits only one."""

from __future__ import annotations

from collections.abc import Sequence

from assent.operations.timelines import Timelines
from assent.primitives.errors import Malformed, NotFound
from assent.primitives.ids import EffectId, ReviewId, TenantId

PART_MIN, PART_MAX = 4, 200
SHOWN_MAX = 5
EFFECT, REVIEW = "eff_", "rev_"


async def pick_effect(timelines: Timelines, tenant: TenantId, text: str) -> EffectId:
    """The effect that `text` names; the id of a review names the effect it is about.

    Raises:
        Malformed: `id_too_short`, `id_ambiguous`.
        NotFound: `effect_not_found`; what belongs to another tenant is not found either.
    """
    found = await _candidates(timelines, tenant, text)
    effects = [name for name in found if name.startswith(EFFECT)]
    reviews = [name for name in found if name.startswith(REVIEW)]
    for review in reviews:
        about = (await timelines.review(tenant, ReviewId(review))).effect
        if about not in effects:
            effects.append(about)
    return EffectId(_only(effects, text, kind="effect", code="effect_not_found", hint="see `assent timeline`"))


async def pick_review(timelines: Timelines, tenant: TenantId, text: str) -> ReviewId:
    """The review that `text` names; the id of an effect names the review about it.

    Raises:
        Malformed: `id_too_short`, `id_ambiguous`.
        NotFound: `review_not_found`.
    """
    found = await _candidates(timelines, tenant, text)
    reviews = [name for name in found if name.startswith(REVIEW)]
    for name in found:
        if name.startswith(EFFECT):
            review = (await timelines.explain(tenant, EffectId(name))).effect.review
            if review and review not in reviews:
                reviews.append(review)
    return ReviewId(_only(reviews, text, kind="review", code="review_not_found", hint="see `assent inbox`"))


async def pick_run(timelines: Timelines, tenant: TenantId, text: str) -> str:
    """The run that `text` names, or an empty string: run names are free, so a whole one comes first."""
    if len(text) < PART_MIN or len(text) > PART_MAX:
        return ""
    found = await timelines.names(tenant, text)
    runs = [name for name in found if not name.startswith((EFFECT, REVIEW))]
    return runs[0] if len(runs) == 1 and len(found) == 1 else ""


async def _candidates(timelines: Timelines, tenant: TenantId, text: str) -> list[str]:
    if not PART_MIN <= len(text) <= PART_MAX:
        raise Malformed(
            "id_too_short" if len(text) < PART_MIN else "id_malformed",
            f"`{text[:60]}` cannot name anything",
            hint=f"give an id, or at least {PART_MIN} characters of one",
        )
    found = await timelines.names(tenant, text)
    return [text] if text in found else found


def _only(names: Sequence[str], text: str, *, kind: str, code: str, hint: str) -> str:
    if not names:
        raise NotFound(code, f"there is no {kind} `{text[:60]}`", hint=hint)
    if len(names) > 1:
        shown = ", ".join(f"`{name}`" for name in names[:SHOWN_MAX])
        more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
        raise Malformed(
            "id_ambiguous", f"`{text[:60]}` fits more than one {kind}: {shown}{more}", hint="give more of the id"
        )
    return names[0]
