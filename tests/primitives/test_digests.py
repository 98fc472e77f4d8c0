from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from assent.primitives.digests import commitment, digest


@given(st.binary(max_size=200))
def test_digest_is_sha256_in_its_one_spelling(data):
    assert digest(data) == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_digest_of_nothing_is_the_known_one():
    assert digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.binary(max_size=100))
def test_commitment_depends_on_every_byte_of_salt_and_data(salt, other, data):
    assert commitment(salt, data) == digest(salt + data)
    assert (commitment(salt, data) == commitment(other, data)) == (salt == other)
    assert commitment(salt, data) != commitment(salt, data + b"\0")
