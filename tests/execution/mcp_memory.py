"""How much memory one call to a flooding server takes: prints the outcome's code and the growth in KiB."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from assent.execution.orders import Limits
from tests.execution.mcp_world import mcp_world
from tests.execution.test_mcp_attacks import DO


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def main(mode: str) -> None:
    async with mcp_world() as here:
        assert (await here.call(here.peer("well"), "do", DO)).code == "ok"
        before = peak_kb()
        limits = Limits(wall_ms=60_000, output_bytes_max=2**30)
        outcome = await here.call(here.peer(mode), "do", DO, limits=limits)
        print(outcome.code, peak_kb() - before)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
