"""Import contracts catch what they are for: each violation, planted alone in a copy, breaks its contract alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.sources import ROOT, SRC, project

# What is planted, in files below src/assent, by the id of the contract that must catch it.
PLANTS: dict[str, dict[str, dict[str, str]]] = {
    "layers": {
        "primitives_import_the_ledger": {"primitives/planted.py": "from assent.ledger import intents"},
        "execution_imports_policy_lazily": {
            "execution/planted.py": "def go() -> None:\n    from assent.policy import planted",
            "policy/planted.py": "",
        },
        "a_module_belongs_to_no_layer": {"stray.py": ""},
    },
    "adapters": {
        "operations_choose_a_database": {"operations/planted.py": "from assent.storage.adapters import sqlite"},
    },
    "composition": {
        "a_second_surface_composes": {
            "surfaces/planted/app.py": "from assent.bootstrap import planted",
            "bootstrap/planted.py": "",
        },
    },
    "pure": {
        "a_rule_reads_the_clock": {"policy/planted.py": "import time"},
        "a_connector_opens_a_file": {"ledger/connectors/planted.py": "import pathlib"},
    },
    "use-cases": {
        "a_use_case_opens_a_socket": {"operations/planted.py": "import socket"},
    },
    "one-door": {
        "operations_go_around_the_ledger": {"operations/planted.py": "from assent.execution.carry import Executor"},
        "another_ledger_module_goes_around_dispatch": {"ledger/planted.py": "from assent.execution import carry"},
    },
    "mint": {
        "recovery_grants_itself_another_try": {"operations/planted.py": "from assent.policy.grants import Mint"},
    },
    "seals": {
        "the_ledger_mints_for_itself": {"ledger/planted.py": "from assent.execution.seals import SealKey"},
    },
    "one-judge": {
        "a_use_case_judges_for_itself": {"operations/planted.py": "import cedarpy"},
    },
    "one-truth": {
        "a_surface_reads_rows": {"surfaces/planted.py": "import sqlite3"},
    },
    "standalone": {
        "the_verifier_borrows_our_hashing": {
            "ledger/verify_standalone.py": "from assent.primitives import digests",
        },
    },
    "surfaces-ask": {
        "a_surface_dispatches": {"surfaces/planted.py": "from assent.execution import ports"},
        "a_surface_decides": {"surfaces/planted.py": "from assent.policy import planted", "policy/planted.py": ""},
    },
    "models-propose": {
        "reasoning_holds_a_grant": {"reasoning/planted.py": "from assent.execution.grants import Grant"},
    },
    "lanes-apart": {
        "a_lane_uses_another_lane": {
            "execution/adapters/http/planted.py": "from assent.execution.adapters.process import ProcessLane",
        },
        "a_foundation_knows_a_lane": {
            "execution/adapters/sandboxes/planted.py": "from assent.execution.adapters.http import HttpLane",
        },
        "an_adapter_stands_nowhere": {"execution/adapters/planted.py": ""},
    },
    "providers-apart": {
        "a_provider_uses_another": {
            "reasoning/adapters/planted.py": "from assent.reasoning.adapters import planted_too",
            "reasoning/adapters/planted_too.py": "",
        },
    },
    "acyclic": {
        "two_modules_need_each_other": {
            "ledger/planted.py": "from assent.ledger import planted_too",
            "ledger/planted_too.py": "from assent.ledger import planted",
        },
    },
}

# An import that points up closes a cycle as well, when the lower layer is already known above.
CLOSES_A_CYCLE = frozenset({"primitives_import_the_ledger", "execution_imports_policy_lazily"})

CASES = [(contract, plant) for contract, plants in PLANTS.items() for plant in plants]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("planted")
    shutil.copytree(SRC / "assent", place / "src/assent", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


@pytest.fixture(scope="module")
def verdicts(copy: Path) -> dict[str, set[str]]:
    """The contracts that break for every plant, found in one process."""
    plants = {name: plant for group in PLANTS.values() for name, plant in group.items()}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("plant.py"))],
        input=json.dumps(plants), cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {name: set(ids) for name, ids in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.slow
def test_contracts_hold_when_nothing_is_planted(verdicts: dict[str, set[str]]) -> None:
    assert verdicts[""] == set()


@pytest.mark.slow
@pytest.mark.parametrize(("contract", "plant"), CASES, ids=[f"{c}-{p}" for c, p in CASES])
def test_contract_breaks_when_it_is_violated(contract: str, plant: str, verdicts: dict[str, set[str]]) -> None:
    cycle = {"acyclic"} if plant in CLOSES_A_CYCLE else set()
    assert verdicts[plant] == verdicts[""] | cycle | {contract}


def test_every_contract_has_a_plant() -> None:
    assert set(PLANTS) == {contract["id"] for contract in project()["tool"]["importlinter"]["contracts"]}


@pytest.mark.slow
def test_lint_imports_exits_with_an_error_when_a_contract_breaks(copy: Path) -> None:
    lint_imports = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    planted = copy / "src/assent/ledger/planted.py"
    planted.write_text("from assent.execution import carry\n")
    try:
        done = subprocess.run(
            [sys.executable, "-c", lint_imports, "--contract", "one-door"],
            cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        planted.unlink()
    assert done.returncode == 1, done.stdout
    assert "assent.ledger.planted -> assent.execution.carry" in done.stdout


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy / "src"), "COLUMNS": "200", "NO_COLOR": "1"}
