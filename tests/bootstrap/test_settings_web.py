"""The ways out in the settings: what is declared, every mistake told with its line, and that the lanes go that way."""

from __future__ import annotations

import asyncio
import os

import pytest

from assent.bootstrap.own_machine import own_targets
from assent.bootstrap.settings import read_settings
from assent.bootstrap.settings_web import WebSettings
from assent.bootstrap.system import SystemClock
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import HttpOrder, SseOrder, WebSocketOrder
from assent.execution.tls import TlsSettings
from assent.primitives.errors import Malformed


def read(folder, text):
    path = folder / "assent.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, login="ann")


def test_ways_out_are_read_whole(tmp_path):
    for name in ("ca.pem", "me.pem", "me.key"):
        (tmp_path / name).write_bytes(b"")
    text = (
        '[web]\nproxy = "127.0.0.1:3128"\nauthorities = "ca.pem"\ncertificate = "me.pem"\nkey = "me.key"\n'
        'tls_version_min = "1.3"\n'
    )
    assert read(tmp_path, text).web == WebSettings(
        proxy="127.0.0.1:3128",
        tls=TlsSettings(
            authorities_file=str(tmp_path / "ca.pem"), certificate_file=str(tmp_path / "me.pem"),
            key_file=str(tmp_path / "me.key"), version_min="1.3",
        ),
    )  # fmt: skip
    assert read(tmp_path, "").web == WebSettings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[web]\nproxy = "http://127.0.0.1:3128"', "is no proxy such as"),
        ('[web]\nproxy = "proxy"', "is no proxy such as"),
        ('[web]\nauthorities = "none.pem"', "there is no file"),
        ('[web]\nkey = "assent.toml"', "without a `certificate`"),
        ('[web]\nauthorities = "workspace/ca.pem"', "an agent could change it"),
        ('[web]\ntls_version_min = "1.1"', 'must be "1.2" or "1.3"'), ("[web]\nproxies = 1", "`proxies`"),
    ],
)  # fmt: skip
def test_mistake_is_told_with_its_line(text, told, tmp_path):
    with pytest.raises(Malformed) as refused:
        read(tmp_path, text)
    assert told in str(refused.value)
    assert "assent.toml:2" in str(refused.value)


def test_every_lane_that_speaks_to_hosts_goes_through_the_proxy_when_one_is_declared(tmp_path):
    asked: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        writer.write(b"HTTP/1.1 403 No\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            web = WebSettings(proxy=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            (target,) = own_targets(SystemClock(), os.urandom, tmp_path, None, web=web)
            here = ("127.0.0.1:1",)
            for order in (
                HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=here),
                SseOrder(url="http://127.0.0.1:1/", hosts=here, reconnects_max=0),
                WebSocketOrder(url="ws://127.0.0.1:1/", hosts=here),
            ):
                lane = target.lane(order)
                assert lane is not None
                outcome = await lane.carry(order, floor=ConfinementClass.LOCAL_WEAK, on_event=lambda _: None)
                assert outcome.code == "unreachable"
            await target.close()

    asyncio.run(main())
    assert asked == ["127.0.0.1:1"] * 3
