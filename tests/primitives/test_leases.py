from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.primitives.errors import Malformed
from assent.primitives.ids import NodeId, tenant
from assent.primitives.leases import SYSTEM, Fence, Lease

NODE = NodeId("nod_" + "0" * 28)


def test_system_tenant_is_one_that_nobody_can_have():
    with pytest.raises(Malformed):
        tenant(SYSTEM)


def test_fences_are_equal_by_node_and_number_and_cannot_be_changed():
    fence = Fence(node=NODE, number=1)
    assert {fence, Fence(node=NODE, number=1)} == {fence}
    assert fence != Fence(node=NODE, number=2)
    with pytest.raises(AttributeError):
        fence.number = 2  # type: ignore[misc]


@given(st.integers(1, 2**53), st.integers(0, 2**53))
def test_lease_and_fence_survive_being_sent(number, expires_at_ms):
    for value in (
        Fence(node=NODE, number=number),
        Lease(name=NODE, holder=NODE, fence=number, expires_at_ms=expires_at_ms),
    ):
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


@pytest.mark.parametrize(
    "text", ['{"node":"n"}', '{"node":"n","number":"1"}', '{"node":"n","number":1,"more":0}', "[]"]
)
def test_fence_is_refused_when_it_does_not_have_exactly_its_fields(text):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Fence)
