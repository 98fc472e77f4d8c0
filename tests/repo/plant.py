"""Judge a copy of the tree by its import contracts, once as it is and once with each planted file.

Run in a process of its own, in the copy, with the copy's `src` first on the path: `python plant.py < plants.json`.
The plants are `{name: {path: text}}`. Prints `{name: [ids of the contracts that broke]}`; the empty name is the copy as
it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from importlinter import configuration
from importlinter.application import use_cases


def broken() -> list[str]:
    """The ids of the contracts that do not hold now."""
    options = use_cases.read_user_options("pyproject.toml")
    use_cases._register_contract_types(options)
    ids = {contract["name"]: contract["id"] for contract in options.contracts_options}
    report = use_cases.create_report(options, cache_dir=None)
    if report.invalid_contract_options:
        raise SystemExit(str(report.invalid_contract_options))
    return sorted(ids[contract.name] for contract, check in report.get_contracts_and_checks() if not check.kept)


def broken_with(plant: dict[str, str]) -> list[str]:
    """The ids of the contracts that do not hold while the files of `plant` are there."""
    made = [Path("src/assent", name) for name in plant]
    empty = [folder / "__init__.py" for path in made for folder in path.parents if _is_new(folder)]
    for path in empty:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    before = {path: path.read_text() for path in made if path.exists()}
    for path, text in zip(made, plant.values(), strict=True):
        path.write_text(text)
    try:
        return broken()
    finally:
        for path in {*made, *empty} - set(before):
            path.unlink()
        for path, text in before.items():
            path.write_text(text)


def _is_new(folder: Path) -> bool:
    return len(folder.parts) > 2 and not (folder / "__init__.py").exists()


if __name__ == "__main__":
    configuration.configure()
    plants = json.load(sys.stdin)
    print(json.dumps({name: broken_with(plant) for name, plant in {"": {}, **plants}.items()}))
