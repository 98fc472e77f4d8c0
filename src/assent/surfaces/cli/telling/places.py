"""Targets and lanes: where things run, what was read of each place, and what can be said to what runs there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assent.execution.attestations import Attestation, ConfinementClass, Known
from assent.execution.steering import Capabilities
from assent.execution.targets import Descriptor, Offer
from assent.surfaces.cli.paper import Paper, Part, Span, Tone

_KNOWN = {Known.ABSENT: Tone.BAD, Known.ASSERTED: Tone.WAIT, Known.CONFIGURED: Tone.WAIT}
_WORDS = {
    ConfinementClass.LOCAL_WEAK: "runs as you, sees your files and your network",
    ConfinementClass.CONFINED: "same kernel, no namespaces; it can list processes",
    ConfinementClass.NAMESPACED: "shared kernel: a hole in the kernel is a way out",
    ConfinementClass.CONTAINER: "shared kernel, and the container runtime is trusted",
    ConfinementClass.USER_KERNEL: "a kernel of its own in user space",
    ConfinementClass.MICROVM: "a kernel of its own; the virtual machine's monitor is trusted",
    ConfinementClass.WASM: "language isolation, inside a process of another class",
    ConfinementClass.REMOTE_ASSERTED: "another machine says so",
    ConfinementClass.BUILTIN: "no foreign code runs",
}


def tell_lanes(paper: Paper, found: Mapping[str, Mapping[str, Capabilities]]) -> None:
    """A table for each target."""
    for target, lanes in found.items():
        paper.line(Span(target, Tone.STRONG))
        rows: list[list[Part]] = [
            [name, Span(", ".join(_traits(one)) or "to its end", Tone.QUIET), one.summary]
            for name, one in lanes.items()
        ]
        paper.table(rows, indent=2, whole=True)


def tell_targets(paper: Paper, found: Sequence[Descriptor]) -> None:
    """For each target its classes, then each mechanism with what was read of it, or why it does not work."""
    for target in found:
        held = ", ".join(target.held)
        paper.line(Span(target.name, Tone.STRONG), f"  {target.kind}  ", Span(held or "holds no class", _tone(held)))
        if target.reason:
            paper.line(Span(target.reason, Tone.BAD), indent=2)
        for offer in target.offers:
            _tell_offer(paper, offer)


def _tell_offer(paper: Paper, offer: Offer) -> None:
    if not offer.works or offer.attestation is None:
        paper.line(f"{offer.mechanism}: ", Span(f"does not work: {offer.reason}", Tone.WAIT), indent=2)
        if offer.fix:
            paper.line("→ ", offer.fix, indent=4)
        return
    label = offer.attestation.confinement
    paper.line(f"{offer.mechanism}: ", Span(label, Tone.GOOD), Span(f"  {_WORDS[label]}", Tone.QUIET), indent=2)
    if offer.reason:
        paper.line(offer.reason, indent=4)
    _tell_properties(paper, offer.attestation)


def _tell_properties(paper: Paper, attestation: Attestation) -> None:
    rows: list[list[Part]] = [
        [name, Span(one.known, _KNOWN.get(one.known, Tone.GOOD)), Span(one.value, Tone.QUIET)]
        for name, one in sorted(attestation.properties.items())
    ]
    paper.table(rows, indent=4)


def _traits(one: Capabilities) -> list[str]:
    """What a lane can do besides carrying an order to its end."""
    named = {"streams": one.streams, "sessions": one.sessions}
    return [*(word.lower() for word in one.words), *(name for name, can in named.items() if can)]


def _tone(held: str) -> Tone:
    return Tone.GOOD if held else Tone.BAD
