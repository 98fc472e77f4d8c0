"""Signatures of policy revisions: whose they are, and what counts."""

from __future__ import annotations

import base64

import pytest

from assent.ledger.checkpoints import Signer, VerifierKey
from assent.ledger.entries import Entry
from assent.ledger.policy_signatures import SIGNATURES_MAX, SignedRevision, Signers, holders, parse
from assent.ledger.verification import Fold
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed, Refused
from assent.primitives.ids import TenantId

ONE, OTHER = digest(b"one"), digest(b"other")
ANN, BEN, EVE = (Signer(name=name, seed=name.encode() * 16) for name in ("an", "be", "ev"))


def signed(*signers: Signer) -> SignedRevision:
    found = SignedRevision(revision=ONE)
    for signer in signers:
        found = found.signed(signer)
    return found


def test_signature_file_is_read_back_as_it_was_written():
    made = signed(ANN, BEN)
    assert parse(made.text()) == made
    assert holders(ONE, made.lines) == (ANN.key, BEN.key)


def test_signing_twice_is_signing_once():
    assert len(signed(ANN, BEN, ANN).lines) == 2


@pytest.mark.parametrize(
    ("signers", "needed", "enough"),
    [((), 1, False), ((EVE,), 1, False), ((ANN,), 1, True), ((ANN,), 2, False), ((ANN, EVE), 2, False),
     ((ANN, BEN), 2, True)],
)  # fmt: skip
def test_revision_needs_as_many_of_the_signers_as_is_said(signers: tuple[Signer, ...], needed: int, enough: bool):
    lacking = Signers(keys=(ANN.key, BEN.key), needed=needed).lacking(ONE, signed(*signers).lines)
    assert (lacking == "") is enough, lacking


def test_one_key_under_two_names_counts_once():
    twin = Signer(name="twin", seed=b"an" * 16)
    assert Signers(keys=(ANN.key, BEN.key), needed=2).lacking(ONE, signed(ANN, twin).lines)


def test_no_signature_is_needed_where_nobody_signs():
    assert Signers().lacking(ONE, ()) == ""


def test_signature_of_another_revision_counts_for_nothing():
    with pytest.raises(Refused, match="is not one of"):
        holders(OTHER, signed(ANN).lines)
    assert Signers(keys=(ANN.key,)).lacking(OTHER, signed(ANN).lines)


def test_signature_under_another_key_is_told_as_forged():
    line = signed(EVE).lines[0].replace(EVE.key.encode(), ANN.key.encode())
    with pytest.raises(Refused) as told:
        holders(ONE, [line])
    assert told.value.code == "signature_forged"
    assert Signers(keys=(ANN.key, BEN.key)).lacking(ONE, [*signed(BEN).lines, line])


def test_checkpoint_of_a_log_is_no_signature_of_a_policy():
    text = f"assent-policy/v2\n{ONE}\n".encode()
    line = f"{ANN.key.encode()} {base64.b64encode(ANN.sign(text).signature).decode()}"
    with pytest.raises(Refused):
        holders(ONE, [line])


@pytest.mark.parametrize(
    "text",
    ["", "assent-policy/v1", "assent-policy/v2\nsha256:0\n", "assent-policy/v1\n\n",
     "assent-policy/v1\nsha256:0\n" + "x y\n" * (SIGNATURES_MAX + 1)],
)  # fmt: skip
def test_parse_refuses_what_is_no_signature_file(text: str):
    with pytest.raises(Malformed):
        parse(text)


@pytest.mark.parametrize("spoil", [lambda line: line + " ", lambda line: line.rstrip("="), lambda _: "x y",
                                   lambda line: line.replace(" ", "  "), lambda line: line + "x" * 2_000])  # fmt: skip
def test_line_has_one_spelling(spoil):
    with pytest.raises(Malformed):
        holders(ONE, [spoil(signed(ANN).lines[0])])


def test_key_that_cannot_be_a_point_signs_nothing():
    none = VerifierKey(name="none", public=b"\xff" * 32)
    with pytest.raises((Malformed, Refused)):
        holders(ONE, [f"{none.encode()} {base64.b64encode(bytes(64)).decode()}"])


@pytest.mark.parametrize(("revision", "whole"), [(ONE, True), (OTHER, False)])
def test_record_says_when_a_revision_is_not_signed_as_it_says(revision: str, whole: bool):
    body = {"revision": revision, "number": 1, "by": "person:ann", "text": ONE, "signatures": list(signed(ANN).lines)}
    entry = Entry(v=1, tenant=TenantId("acme"), seq=0, at=0, prev="", type="policy.activated", body=body)
    told = Fold().add(entry, None, None)
    assert (told == "") is whole, told
