"""A spawner that has imported more: its clones run Python in the interpreter they already are.

What is imported here is named by the operator, never by an order: it runs before the jail, and as root where Assent is
root. It holds no secret and no open descriptor of its own afterwards, and it never runs anybody's code: every call is
a clone of the same untouched state. So calls share the layout of memory and the seed of string hashes; that is why a
zygote serves one workspace only.
"""

from __future__ import annotations

import json
import sys

from . import interpreter, spawner  # noqa: F401 - its clones need it, and may not be able to read its file


def main(arguments: list[str]) -> None:
    """`arguments`: the spawner's four, then further folders of modules and the modules to import (JSON lists)."""
    sys.path.extend(json.loads(arguments[4]))
    for name in json.loads(arguments[5]):
        __import__(name)
    spawner.main(arguments[:4])


if __name__ == "__main__":
    main(sys.argv[1:])
