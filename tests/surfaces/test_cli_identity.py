"""Tokens at the command line: made once, shown once, good for what they say, and for nothing of the system's user."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from assent.surfaces.cli.exits import Exit
from tests.surfaces.commandline import Cli

pytestmark = pytest.mark.slow


@pytest.fixture
def ready(home: Path, cli: Cli) -> Cli:
    assert home.is_dir()
    assert cli("policy", "activate").code == Exit.DONE
    return cli


def made(cli: Cli, *words: str) -> tuple[str, str]:
    ran = cli("tokens", "create", "a job", *words, "--json")
    assert ran.code == Exit.DONE
    return ran.document["token"]["id"], ran.document["text"]


def test_token_asks_as_whom_it_shows_and_for_what_it_is_good(ready: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready("do", "files.make_folder", "--path", "notes").code == Exit.DONE
    id_, text = made(ready, "--as", "agent:helper", "--scope", "files.write path=notes/*", "--scope", "files.read")
    assert text not in ready("tokens", "list").out + ready("timeline").out
    monkeypatch.setenv("ASSENT_TOKEN", text)
    who = ready("whoami")
    assert "agent:helper for person:" in who.out
    assert ready("do", "files.make_folder", "--path", "more").code == Exit.REFUSED
    done = ready("do", "files.write", "--path", "notes/a", "--content", "x", "--json")
    assert done.code == Exit.DONE, done.err
    assert ready("do", "files.write", "--path", "b", "--content", "x").code == Exit.REFUSED
    assert ready("do", "files.read", "--path", "b", "--as", "person:somebody").code == Exit.REFUSED
    assert ready("policy", "propose").code == Exit.REFUSED
    for words in (("policy", "activate"), ("halt", "--reason", "x"), ("tokens", "list"), ("timeline",)):
        assert "ASSENT_TOKEN" in ready(*words).err
    monkeypatch.delenv("ASSENT_TOKEN")
    assert ready("tokens", "revoke", id_[-8:], "--reason", "over").code == Exit.DONE
    monkeypatch.setenv("ASSENT_TOKEN", text)
    refused = ready("do", "files.read", "--path", "b")
    assert (refused.code, "revoked" in refused.err) == (Exit.REFUSED, True)
    monkeypatch.setenv("ASSENT_TOKEN", "nonsense")
    assert ready("whoami").code == Exit.REFUSED


def test_review_is_answered_with_a_token_that_may_and_no_other(ready: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ready("do", "files.write", "--path", "a", "--content", "x")
    review = ready("do", "files.delete", "--path", "a", "--json").document["review"]["id"]
    _, plain = made(ready)
    _, answering = made(ready, "--may-answer")
    monkeypatch.setenv("ASSENT_TOKEN", plain)
    assert ready("inbox").code == Exit.DONE
    assert ready("approve", review).code == Exit.REFUSED
    assert ready("deny", review, "--reason", "x").code == Exit.REFUSED
    monkeypatch.setenv("ASSENT_TOKEN", answering)
    assert ready("approve", review).code == Exit.DONE


def test_policy_is_proposed_looked_at_and_put_in_force_by_somebody_else(
    home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ECKey.generate_key("P-256", parameters={"kid": "one"}, private=True)
    (home / "corp.jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    settings, rules = home / "assent.toml", home / "policy" / "more.cedar"
    settings.write_text(settings.read_text() + CORP)
    assert cli("policy", "activate").code == Exit.DONE
    rules.write_text('@id("no-lists") @reason("r") forbid (principal, action, resource == Operation::"files.list");')
    refused = cli("policy", "activate")
    assert (refused.code, "assent policy propose" in refused.err) == (Exit.REFUSED, True)
    asked = cli("policy", "propose", "--json")
    assert asked.code == Exit.WAITING
    review = asked.document["review"]["id"]
    shown = cli("review", review)
    assert '+@id("no-lists")' in shown.out
    assert "Nothing looser was found" in shown.out
    assert cli("approve", review).code == Exit.REFUSED
    claims = {"iss": "https://id.example", "aud": "assent", "sub": "bob", "exp": int(time.time()) + 600}
    monkeypatch.setenv("ASSENT_TOKEN", jwt.encode({"alg": "ES256", "kid": "one"}, claims, key))
    assert "person:bob" in cli("whoami").out
    done = cli("approve", review, "--reason", "looked")
    assert (done.code, "Done: policy.activate" in done.out) == (Exit.DONE, True)
    monkeypatch.delenv("ASSENT_TOKEN")
    assert cli("do", "files.list").code == Exit.REFUSED
    assert 'forbid (principal, action, resource == Operation::"files.list")' in cli("policy", "show").out
    rules.write_text('@id("x") @reason("r") permit (principal, action, resource);')
    assert cli("policy", "propose").code == Exit.FAILED
    assert cli("verify").code == Exit.DONE


CORP = """
[policy]
by_review = true

[people.bob]

[identity.corp]
issuer = "https://id.example"
audience = "assent"
keys = "corp.jwks.json"
may_answer = true
"""


def test_settings_name_every_mistake_about_who_signs_in(home: Path, cli: Cli) -> None:
    settings = home / "assent.toml"
    (home / "keys.json").write_text('{"keys": []}')
    settings.write_text(
        settings.read_text()
        + """
[identity.corp]
issuer = "https://id.example"
keys = "keys.json"
algorithms = ["HS256"]
as = "agent"
may_answer = true

[workloads.build]
names = ["*.example"]
for = "person:ann"
"""
    )
    said = cli("tokens", "list").err
    for mistake in (
        "`audience` is missing",
        "HS256",
        "`agent` is not one of",
        "only people answer",
        "keys.json",
        "*.example",
    ):
        assert mistake in said
