"""`python -m assent` is `assent`."""

from __future__ import annotations

from assent.surfaces.cli.main import main

if __name__ == "__main__":
    main()
