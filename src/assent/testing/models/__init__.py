"""A server that speaks as model providers do, and fails on request. For tests and demonstrations; no model is in it.

    async with ModelServer([Reply(text="four")]) as server:
        ...  # ask at server.url, in the format of Anthropic, OpenAI (Chat and Responses), Gemini or Ollama

As a program: `python -m assent.testing.models --script FILE` prints one JSON line with its address.
"""

from __future__ import annotations

from assent.testing.models.replies import Called, Failing, Reply, Seen, read_replies
from assent.testing.models.server import ModelServer

__all__ = ["Called", "Failing", "ModelServer", "Reply", "Seen", "read_replies"]
