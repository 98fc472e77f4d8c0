"""The model server as a program: for other processes, demonstrations and trials by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from assent.testing.models.replies import KEY, Reply, read_replies
from assent.testing.models.server import ModelServer


async def serve(replies: tuple[Reply, ...], *, port: int, key: str) -> None:
    """Serve until the process is ended; the first line of output is the address."""
    async with ModelServer(replies, port=port, key=key) as server:
        sys.stdout.write(json.dumps({"url": server.url, "key": key}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m assent.testing.models", description=__doc__)
    parser.add_argument("--script", type=Path, required=True, help="a JSON list of replies")
    parser.add_argument("--port", type=int, default=0, help="the port (else: a free one)")
    parser.add_argument("--key", default=KEY, help="the key that questions must carry (empty: none)")
    given = parser.parse_args()
    try:
        asyncio.run(serve(read_replies(given.script.read_bytes()), port=given.port, key=given.key))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
