"""Signed notes: the formats byte by byte, who signed what, and the key that cannot leave its signer."""

from __future__ import annotations

import base64
import copy
import hashlib
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.ledger.checkpoints import (
    SIGNATURES_MAX,
    SIZE_MAX,
    Checkpoint,
    Signer,
    VerifierKey,
    cosign,
    key_name,
    origin,
    parse,
    sign,
    signers,
    verify,
)
from assent.primitives.errors import Malformed, Refused
from assent.primitives.ids import TenantId

SEED = bytes(range(32))
LOG = Signer(name="assent/example", seed=SEED)
WITNESS = Signer(name="witness.example/w1", seed=b"w" * 32)
STRANGER = Signer(name="assent/example", seed=b"s" * 32)  # the same name, another key
ROOT = hashlib.sha256(b"root").digest()
HEAD = Checkpoint(origin="assent/example/acme", size=1204, root=ROOT)
NOTE = sign(HEAD, LOG)

# Keys, texts and signatures published with other implementations of signed notes.
PUBLISHED = [
    (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
    ),
    (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "This is an example message.\n",
        "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=",
    ),
]


def refused(note: str, key: VerifierKey = LOG.key) -> Refused:
    with pytest.raises(Refused) as caught:
        verify(note, key)
    return caught.value


@pytest.mark.parametrize(("vkey", "text", "signature"), PUBLISHED)
def test_verifier_key_agrees_with_other_implementations_for_published_notes(
    vkey: str, text: str, signature: str
) -> None:
    key = VerifierKey.decode(vkey)
    raw = base64.b64decode(signature)
    assert key.encode() == vkey
    assert key.key_id == raw[:4]
    assert key.signed(text.encode(), raw[4:])
    assert not key.signed(text.encode() + b" ", raw[4:])
    assert not key.signed(text.encode(), raw[5:])


def test_sign_writes_the_standard_lines_when_given_a_checkpoint() -> None:
    text, _, signature = NOTE.partition("\n\n")
    assert text == f"assent/example/acme\n1204\n{base64.b64encode(ROOT).decode()}"
    name = LOG.key.name
    key_id = hashlib.sha256(name.encode() + b"\x0a\x01" + LOG.key.public).digest()[:4]
    dash, signed_by, encoded = signature.removesuffix("\n").split(" ")
    assert (dash, signed_by) == ("—", name)
    assert base64.b64decode(encoded)[:4] == key_id
    assert len(base64.b64decode(encoded)) == 68


def test_sign_gives_the_same_note_when_asked_twice() -> None:
    assert sign(HEAD, Signer(name="assent/example", seed=SEED)) == NOTE


def test_verify_returns_the_checkpoint_when_the_key_signed_it() -> None:
    assert verify(NOTE, LOG.key) == HEAD


def test_verify_refuses_the_note_when_another_key_of_that_name_signed_it() -> None:
    assert refused(sign(HEAD, STRANGER)).code == "checkpoint_unsigned"


@given(st.integers(min_value=0, max_value=len(NOTE.encode()) - 1), st.integers(min_value=0, max_value=7))
def test_verify_refuses_the_note_when_any_bit_is_flipped(place: int, bit: int) -> None:
    raw = bytearray(NOTE.encode())
    raw[place] ^= 1 << bit
    try:
        note = raw.decode()
    except UnicodeDecodeError:
        return
    refused(note)


def test_verify_refuses_the_note_when_its_text_is_another_checkpoint() -> None:
    forged = NOTE.replace("\n1204\n", "\n1205\n")
    assert refused(forged).code == "checkpoint_forged"


def test_verify_refuses_the_note_when_one_of_two_lines_of_the_key_is_false() -> None:
    other = sign(Checkpoint(origin=HEAD.origin, size=7, root=ROOT), LOG).partition("\n\n")[2]
    assert refused(NOTE + other).code == "checkpoint_forged"


def test_cosign_adds_a_line_when_a_witness_agrees() -> None:
    note = cosign(NOTE, WITNESS)
    assert note.startswith(NOTE)
    assert verify(note, LOG.key) == verify(note, WITNESS.key) == HEAD
    assert signers(parse(note), [WITNESS.key, STRANGER.key, LOG.key]) == (WITNESS.key, LOG.key)
    assert parse(note).text() == note


def test_cosign_refuses_when_this_key_signed_already() -> None:
    with pytest.raises(Refused) as caught:
        cosign(NOTE, LOG)
    assert caught.value.code == "note_signed_already"


def test_cosign_refuses_when_the_note_is_full() -> None:
    note = NOTE
    for number in range(SIGNATURES_MAX - 1):
        note = cosign(note, Signer(name=f"w{number}", seed=bytes([number]) * 32))
    assert len(parse(note).signatures) == SIGNATURES_MAX
    with pytest.raises(Malformed):
        cosign(note, WITNESS)
    with pytest.raises(Malformed):
        parse(note + WITNESS.sign(b"").line())


def test_signers_ignores_a_line_when_its_key_or_kind_is_unknown() -> None:
    foreign = f"— {LOG.key.name} {base64.b64encode(bytes([4]) * 4 + bytes(72)).decode()}\n"
    assert verify(NOTE + foreign, LOG.key) == HEAD
    assert signers(parse(NOTE + foreign), [WITNESS.key]) == ()


def test_parse_reads_what_sign_wrote_for_the_empty_and_the_largest_log() -> None:
    for size in (0, 1, SIZE_MAX):
        head = Checkpoint(origin="assent/example/acme", size=size, root=ROOT)
        assert parse(sign(head, LOG)).checkpoint == head


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1204", "01204"),
        ("1204", "-1204"),
        ("1204", "+1204"),
        ("1204", "1_204"),
        ("1204", "1204 "),
        ("1204", "\u0661\u0662"),
        ("1204", "9223372036854775808"),
        ("1204", "9" * 30),
        ("assent/example/acme\n", "\n"),
        ("assent/example/acme", "assent/example/ac\rme"),
        ("assent/example/acme", "assent/example/ac\udcffme"),
        ("=\n\n", "\n\n"),
        ("=\n\n", "=\nextension\n\n"),
        ("=\n\n", "=\n"),
        ("=\n\n", "=\r\n\r\n"),
        ("=\n\n", "=\n\n\n"),
        ("— ", "- "),
        ("— ", "—  "),
        ("— assent/example ", "— assent/exa+mple "),
        ("— assent/example ", "— assent/exa\u00a0mple "),
        ("— assent/example ", "—  "),
        ("— assent/example ", "— assent/example more "),
        ("— assent/example ", "— assent/example !"),
    ],
)
def test_parse_refuses_the_note_when_the_spelling_is_not_exact(old: str, new: str) -> None:
    assert old in NOTE
    with pytest.raises(Malformed):
        parse(NOTE.replace(old, new, 1))


@pytest.mark.parametrize(
    "note",
    [
        *("", "\n", "\n\n\n\n\n", NOTE.removesuffix("\n"), NOTE.partition("—")[0]),
        *("\n" + NOTE, NOTE + "\n", NOTE + " \n", NOTE[:-1] + " \n", NOTE + "— x QUJDRA==\n", NOTE * 1000),
    ],
)
def test_parse_refuses_the_note_when_something_is_missing_or_left_over(note: str) -> None:
    with pytest.raises(Malformed):
        parse(note)


def test_parse_refuses_base64_when_it_has_a_second_spelling() -> None:
    root = base64.b64encode(ROOT).decode()
    sloppy = root[:-2] + chr(ord(root[-2]) + 1) + "="  # other padding bits, the same 32 bytes
    assert base64.b64decode(sloppy) == ROOT
    with pytest.raises(Malformed):
        parse(NOTE.replace(root, sloppy))


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": ""},
        {"origin": "a\nb"},
        {"origin": "x" * 513},
        {"size": -1},
        {"size": SIZE_MAX + 1},
        {"root": b""},
        {"root": ROOT + b"x"},
    ],
)
def test_checkpoint_refuses_its_fields_when_they_cannot_be_written(fields: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        msgspec.structs.replace(HEAD, **fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        LOG.key.encode().replace("+", "+0", 1),
        LOG.key.encode().replace("assent/example", "assent/other"),
        LOG.key.encode()[:-1],
        LOG.key.encode() + "A",
        "a b+" + LOG.key.encode().split("+", 1)[1],
        "n+12345678+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        "n+12345678+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
    ],
)
def test_verifier_key_refuses_its_text_when_any_part_is_wrong(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        VerifierKey.decode(text)
    assert caught.value.code == "verifier_key_malformed"


def test_verifier_key_survives_the_trip_when_written_and_read() -> None:
    assert VerifierKey.decode(LOG.key.encode() + "\n") == LOG.key
    assert LOG.key.encode().startswith(f"assent/example+{LOG.key.key_id.hex()}+")


def test_signer_keeps_its_key_when_printed_pickled_or_copied() -> None:
    secrets = (SEED.hex(), base64.b64encode(SEED).decode(), repr(SEED))
    for shown in (repr(LOG), str(LOG), f"{LOG}", repr([LOG])):
        assert LOG.key.encode() in shown
        assert not any(secret in shown for secret in secrets)
    for take in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode):
        with pytest.raises(TypeError):
            take(LOG)
    assert not hasattr(LOG, "__dict__")


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_signer_refuses_its_seed_when_it_has_another_length(seed: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        Signer(name="assent/example", seed=seed)
    assert caught.value.code == "signing_key_malformed"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\u2003b"])
def test_signer_refuses_its_name_when_a_signature_line_cannot_hold_it(name: str) -> None:
    with pytest.raises(Malformed):
        Signer(name=name, seed=SEED)


def test_origin_names_log_and_tenant_when_written() -> None:
    assert origin(log_id="example", tenant=TenantId("acme")) == HEAD.origin
    assert key_name(log_id="example") == LOG.key.name
