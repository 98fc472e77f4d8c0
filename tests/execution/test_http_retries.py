"""Further tries of the http lane: where they are allowed, how long is waited, and what the record says of each."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.outcomes import Ending
from assent.execution.retries import RETRY_AFTER_MS_MAX, Backoff, may_repeat, retry_after_ms
from tests.execution.sites import Asked, Site, carried, http_lane, once, order, pinned, whole

SOON = Backoff(first_ms=2, most_ms=8)
NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT


@given(st.integers(1, 1_000), st.binary(max_size=8))
def test_wait_lies_between_half_and_whole_of_a_doubling_bound(tries, chance):
    backoff = Backoff(first_ms=100, most_ms=1_000)
    whole_ms = min(1_000, 100 * 2 ** (tries - 1))
    assert whole_ms // 2 <= backoff.wait_ms(tries, chance) <= whole_ms
    assert backoff.wait_ms(tries, b"") == whole_ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (b"3", 3_000), (b" 120 ", 120_000), (b"0", 0), (b"Tue, 14 Nov 2023 22:13:25 GMT", 5_000),
        (b"Tue, 14 Nov 2023 22:13:00 GMT", 0), (b"-3", None), (b"3.5", None), (b"soon", None), (b"", None),
        (b"Tue, 14 Nov 0000 22:13:25 GMT", None), (b"9" * 30, None), (None, None),
    ],
)  # fmt: skip
def test_retry_after_is_read_when_it_is_seconds_or_a_date(value, ms):
    assert retry_after_ms(value, now_ms=NOW_MS) == ms


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH", "LINK"])
def test_only_idempotent_methods_may_be_repeated_without_a_key(method):
    assert may_repeat(method, idempotency_key="") is (method not in {"POST", "PATCH", "LINK"})
    assert may_repeat(method, idempotency_key="k")


def failing(times: int, answer: bytes, *, hang_up: bool = False):
    """`answer` so many times, and then a good one."""
    left = [times]

    async def said(_: Asked, writer: asyncio.StreamWriter) -> None:
        left[0] -= 1
        writer.write(answer if left[0] >= 0 else whole(200, b"good"))
        await writer.drain()
        if hang_up and left[0] >= 0:
            writer.close()

    return said


@pytest.mark.anyio
@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
async def test_get_is_tried_again_when_the_server_says_later(status):
    async with Site(failing(2, whole(status, b"later"))) as site, http_lane(backoff=SOON) as lane:
        here = f"127.0.0.1:{site.port}"
        outcome, body = await carried(lane, order(f"http://{here}/", here, retries_max=2))
    assert (outcome.ending, outcome.code, outcome.value["body"], body) == (Ending.SUCCEEDED, "ok", "good", b"good")
    assert [one["status"] for one in outcome.evidence.facts["attempts"]] == [status, status, 200]
    assert [one["waits_ms"] for one in outcome.evidence.facts["attempts"]] == [2, 4, 0]
    assert [hop["attempt"] for hop in outcome.evidence.facts["hops"]] == [1, 2, 3]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]
)
async def test_get_is_tried_again_when_the_answer_is_cut(answer):
    async with Site(failing(1, answer, hang_up=True)) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, retries_max=1), backoff=SOON)
    assert outcome.code == "ok"
    assert [one["code"] for one in outcome.evidence.facts["attempts"]] == ["cut_short", "ok"]


@pytest.mark.anyio
async def test_get_is_not_tried_again_when_a_piece_was_already_handed_up():
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    async with Site(failing(1, half, hang_up=True)) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, retries_max=3), backoff=SOON)
        assert len(site.asked) == 1
    assert outcome.code == "cut_short"


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 404, 409, 500, 501])
async def test_answer_stands_when_it_says_no_and_not_later(status):
    async with Site(failing(1, whole(status, b"no"))) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, retries_max=3), backoff=SOON)
        assert len(site.asked) == 1
    assert (outcome.ending, outcome.value["body"]) == (Ending.FAILED, "no")


@pytest.mark.anyio
async def test_tries_end_at_their_bound_and_the_last_answer_is_told():
    async with Site(failing(99, whole(503, b"down"))) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, retries_max=2), backoff=SOON)
        assert len(site.asked) == 3
    assert (outcome.ending, outcome.code, outcome.value["body"]) == (Ending.FAILED, "http_status", "down")


@pytest.mark.anyio
@pytest.mark.parametrize("named", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_retry_after_is_waited_for_instead_of_the_own_wait(named):
    async with Site(failing(1, whole(503, b"", f"Retry-After: {named}"))) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, retries_max=1), backoff=Backoff(first_ms=60_000))
    assert outcome.code == "ok"
    assert outcome.evidence.facts["attempts"][0]["waits_ms"] == 0


@pytest.mark.anyio
@pytest.mark.parametrize("named", [str(RETRY_AFTER_MS_MAX // 1000 + 1), "4"])
async def test_answer_stands_when_the_server_names_a_time_beyond_the_bound_or_the_deadline(named):
    async with Site(failing(9, whole(503, b"later", f"Retry-After: {named}"))) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, retries_max=3, wall_ms=3_000))
        assert len(site.asked) == 1
    assert outcome.value["body"] == "later"


@pytest.mark.anyio
async def test_put_and_keyed_post_send_the_same_key_and_body_in_every_try():
    for method, key in (("PUT", ""), ("POST", "eff_1"), ("PATCH", "eff_2")):
        async with Site(failing(2, whole(502))) as site:
            here = f"127.0.0.1:{site.port}"
            what = order(f"http://{here}/", here, method=method, body=b"data", idempotency_key=key, retries_max=2)
            assert (await once(what, backoff=SOON)).ending is Ending.SUCCEEDED
        assert [asked.body for asked in site.asked] == [b"data"] * 3
        assert [asked.headers.get("idempotency-key", "") for asked in site.asked] == [key] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["POST", "PATCH", "LINK"])
async def test_order_is_malformed_when_it_would_repeat_what_may_happen_twice(method):
    async with Site() as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, method=method, retries_max=1))
        many = await once(order(f"http://{here}/", here, retries_max=11))
        assert site.connections == 0
    assert (outcome.ending, outcome.code, many.code) == (Ending.FAILED, "order_malformed", "order_malformed")


@pytest.mark.anyio
async def test_delete_stays_unknown_when_an_earlier_try_may_have_been_carried_out():
    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        if len(site.asked) == 1:
            writer.close()
        else:
            writer.write(whole(404))

    async with Site(answer) as site:
        here = f"127.0.0.1:{site.port}"
        outcome = await once(order(f"http://{here}/", here, method="DELETE", retries_max=1), backoff=SOON)
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "http_status")
    assert [one["ending"] for one in outcome.evidence.facts["attempts"]] == ["unknown", "unknown"]


@pytest.mark.anyio
async def test_each_try_is_checked_anew_when_the_name_server_changes_its_mind():
    async with Site(failing(1, whole(503))) as site, Site(host="127.0.0.2", port=site.port) as canary:
        answers = iter([["127.0.0.1"], ["127.0.0.2"]])
        what = order(
            f"http://allowed.test:{site.port}/", f"allowed.test:{site.port}", f"127.0.0.1:{site.port}", retries_max=1
        )
        outcome = await once(what, resolver=lambda _: next(answers), backoff=SOON)
        assert canary.connections == 0
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "address_refused")


@pytest.mark.anyio
async def test_unreachable_host_is_tried_again_and_a_refused_one_is_not():
    tries: list[str] = []

    def nobody(name: str) -> list[str]:
        tries.append(name)
        raise OSError

    outcome = await once(order("http://a.test/", "a.test:80", retries_max=2), resolver=nobody, backoff=SOON)
    assert (outcome.code, len(tries)) == ("unreachable", 3)
    refused = await once(order("http://b.test/", "a.test:80", retries_max=2), resolver=pinned(), backoff=SOON)
    assert (refused.code, len(refused.evidence.facts["attempts"])) == ("host_refused", 1)


@pytest.mark.anyio
async def test_wall_limit_holds_over_all_tries():
    async with Site(failing(99, whole(503))) as site:
        here = f"127.0.0.1:{site.port}"
        what = order(f"http://{here}/", here, retries_max=10, wall_ms=400)
        outcome = await once(what, backoff=Backoff(first_ms=40, most_ms=10_000))
        assert len(site.asked) <= 4
    # Mostly the next wait would not have fitted; on a slow machine the time is up in the midst of a try.
    assert (outcome.ending, outcome.code) in {(Ending.FAILED, "http_status"), (Ending.FAILED, "wall_limit")}


@pytest.mark.anyio
async def test_cancelling_between_two_tries_says_what_the_first_may_have_done():
    async with (
        Site(failing(99, whole(502))) as site,
        http_lane(backoff=Backoff(first_ms=30_000, most_ms=30_000)) as lane,
    ):
        here = f"127.0.0.1:{site.port}"
        what = order(f"http://{here}/", here, method="PUT", retries_max=3, wall_ms=60_000)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            task = group.create_task(carried(lane, what))
            await site.arrived.wait()
            await asyncio.sleep(0.05)
            task.cancel()
    outcome, _ = task.result()
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "cancelled")
