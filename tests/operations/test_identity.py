"""Identity: whom a token, a provider's signed token and a certificate show, and everything that shows nobody."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from msgspec.structs import replace

from assent.bootstrap.mutual_tls import server_context
from assent.ledger.provenance import TYPED, UNVOUCHED
from assent.operations.identity.certificates import Workload, shown, workload_fault
from assent.operations.identity.providers import TOKEN_CHARACTERS_MAX, Provider, issuer_of, read_keys
from assent.operations.identity.signing_in import SigningIn
from assent.operations.identity.tokens import Tokens
from assent.primitives.errors import Conflict, Malformed, NotFound, Refused
from assent.primitives.ids import TenantId
from assent.testing.benches import ACME, AGENT, ANN, Bench
from tests.operations.scenes import BOB, Scene

DAY_MS = 86_400_000
GLOBEX = TenantId("globex")
FOR_ANN = ("person:ann",)


def tokens_of(bench: Bench, scene: Scene) -> Tokens:
    return Tokens(store=bench.store, fence=bench.fence, clock=scene.clock, entropy=scene.entropy())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.parts = replace(made.parts, ttl_ms=400 * DAY_MS, tenants=(ACME, GLOBEX))
    return made


# Tokens


def test_token_shows_whom_it_was_made_for_and_only_its_digest_is_kept(scene, tmp_path):
    async def body(bench: Bench) -> None:
        tokens = tokens_of(bench, scene)
        until_ms = scene.clock.now_ms() + DAY_MS
        made = await tokens.make(
            ACME, by=ANN, principal=AGENT, label="a job", until_ms=until_ms, scope=["files.read path=src/*"]
        )
        caller = await tokens.caller(ACME, made.text)
        assert (caller.principal, caller.on_behalf_of) == (AGENT, (ANN,))
        assert caller.wish("files.read", {"path": "src/a"}).provenance == UNVOUCHED
        for operation, path in (("files.write", "src/a"), ("files.read", "a"), ("files.read", "src/../a")):
            with pytest.raises(Refused, match="good for"):
                caller.wish(operation, {"path": path})
        with pytest.raises(Refused, match="not answered"):
            caller.answering()
        mine = await tokens.make(ACME, by=ANN, principal=ANN, label="me", until_ms=until_ms, may_answer=True)
        me = await tokens.caller(ACME, mine.text)
        assert (me.principal, me.on_behalf_of, me.answering()) == (ANN, (), ANN)
        assert me.wish("files.read", {"path": "a"}).provenance == TYPED
        assert [one.label for one in await tokens.all(ACME)] == ["a job", "me"]
        secret = made.text.rsplit("_", 1)[1]
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert secret.encode() not in path.read_bytes()

    scene.run(body)


def test_token_that_is_revoked_or_over_or_of_another_tenant_shows_nobody(scene):
    async def body(bench: Bench) -> None:
        tokens = tokens_of(bench, scene)
        until_ms = scene.clock.now_ms() + DAY_MS
        first = await tokens.make(ACME, by=ANN, principal=ANN, label="one", until_ms=until_ms)
        other = await tokens.make(ACME, by=ANN, principal=ANN, label="two", until_ms=until_ms)
        with pytest.raises(Refused, match="shows nobody"):
            await tokens.caller(GLOBEX, first.text)
        await tokens.revoke(ACME, first.token.id, by=BOB, reason="it leaked")
        with pytest.raises(Refused, match="revoked"):
            await tokens.caller(ACME, first.text)
        with pytest.raises(Conflict):
            await tokens.revoke(ACME, first.token.id, by=BOB, reason="again")
        with pytest.raises(NotFound):
            await tokens.revoke(GLOBEX, other.token.id, by=BOB, reason="not yours")
        scene.clock.pass_ms(DAY_MS)
        with pytest.raises(Refused, match="expired"):
            await tokens.caller(ACME, other.text)

    scene.run(body)


def test_nothing_near_a_token_shows_anybody(scene):
    async def body(bench: Bench) -> None:
        tokens = tokens_of(bench, scene)
        made = await tokens.make(ACME, by=ANN, principal=ANN, label="x", until_ms=scene.clock.now_ms() + DAY_MS)
        text = made.text
        head, secret = text.rsplit("_", 1)
        near = [
            "", "assent_", text[:-1], text + "A", text.upper(), text.lower(), text + "\n", " " + text, head, secret,
            f"{head}_{'A' * 43}", text.replace("tok_", "tok_\u0430"[:5]), text.replace("_", "\uff3f"), "assent_tok_x_y",
            f"assent_tok_{'0' * 28}_{secret}", text * 2, f"{head}_{secret[:-1]}\u0000",
        ]  # fmt: skip
        for one in near:
            if one != text:
                with pytest.raises(Refused) as refused:
                    await tokens.caller(ACME, one)
                assert refused.value.code == "token_refused"
                assert secret not in str(refused.value)

    scene.run(body)


GOOD = {"by": ANN, "principal": ANN, "label": "x", "days": 1, "may_answer": False}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"by": AGENT, "principal": AGENT}, Refused), ({"principal": BOB}, Refused),
        ({"principal": "person:ANN"}, Refused),
        ({"label": ""}, Malformed), ({"label": "x\n"}, Malformed), ({"label": "x" * 101}, Malformed),
        ({"days": 0}, Malformed), ({"days": 400}, Malformed), ({"principal": AGENT, "may_answer": True}, Malformed),
        ({"principal": "agent:"}, Malformed), ({"principal": "schedule:x"}, Malformed),
        ({"principal": "agent:\u0430nn"}, Malformed), ({"principal": "Person:ann"}, Malformed),
    ],
    ids=str,
)  # fmt: skip
def test_token_that_would_show_somebody_else_or_nobody_is_not_made(scene, change, error):
    async def body(bench: Bench) -> None:
        tokens = tokens_of(bench, scene)
        said: dict[str, Any] = {**GOOD, **change}
        until_ms = scene.clock.now_ms() + said.pop("days") * DAY_MS
        with pytest.raises(error):
            await tokens.make(ACME, until_ms=until_ms, **said)
        assert await tokens.all(ACME) == []

    scene.run(body)


def test_nobody_approves_with_a_second_token_what_they_asked_with_the_first(scene):
    async def body(bench: Bench) -> None:
        tokens = tokens_of(bench, scene)
        until_ms = scene.clock.now_ms() + DAY_MS
        asks = await tokens.make(ACME, by=ANN, principal=ANN, label="asks", until_ms=until_ms)
        answers = await tokens.make(ACME, by=ANN, principal=ANN, label="answers", until_ms=until_ms, may_answer=True)
        robot = await tokens.make(ACME, by=ANN, principal=AGENT, label="robot", until_ms=until_ms)
        asking = await tokens.caller(ACME, asks.text)
        asked = await bench.gate.perform(asking.wish("files.delete", {"path": "a.txt"}))
        assert asked.review is not None
        me = (await tokens.caller(ACME, answers.text)).answering()
        with pytest.raises(Refused, match="made this request"):
            await bench.reviews.approve(ACME, asked.review.id, by=me)
        with pytest.raises(Refused, match="not answered"):
            (await tokens.caller(ACME, robot.text)).answering()
        with pytest.raises(Refused, match="only people"):
            await bench.reviews.approve(ACME, asked.review.id, by=AGENT)

    scene.run(body)


# Providers


RSA = RSAKey.generate_key(2048, parameters={"kid": "one"}, private=True)
EC = ECKey.generate_key("P-256", parameters={"kid": "two"}, private=True)
KEYS = read_keys(json.dumps({"keys": [RSA.as_dict(private=False), EC.as_dict(private=False)]}).encode())
PROVIDER = Provider(name="corp", issuer="https://id.example", audience="assent", keys=KEYS)
NOW_S = 1_700_000_000
CLAIMS: dict[str, Any] = {"iss": "https://id.example", "aud": "assent", "sub": "ann", "exp": NOW_S + 600}


def signed(claims: dict[str, Any] | None = None, *, key: Any = RSA, **header: Any) -> str:
    said = {"alg": "RS256", "kid": key.kid, **header}
    return jwt.encode({k: v for k, v in said.items() if v is not None}, claims or CLAIMS, key)


def caller_of(text: str, provider: Provider = PROVIDER) -> Any:
    return provider.caller(ACME, text, now_ms=NOW_S * 1_000)


def test_signed_token_of_a_provider_shows_the_person_its_claim_names():
    assert (caller_of(signed()).principal, caller_of(signed()).on_behalf_of) == (ANN, ())
    assert caller_of(signed(key=EC, alg="ES256")).principal == ANN
    assert not caller_of(signed()).may_answer
    mail = replace(PROVIDER, claim="email")
    assert caller_of(signed({**CLAIMS, "email": "ann@example.com"}), mail).principal == "person:ann@example.com"
    job = replace(PROVIDER, kind="service", on_behalf_of="schedule:nightly")
    assert (caller_of(signed(), job).principal, caller_of(signed(), job).on_behalf_of) == (
        "service:ann",
        ("schedule:nightly",),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://id.example/"}, {"iss": "https://ID.example"}, {"iss": None}, {"aud": "other"}, {"aud": None},
        {"aud": ["other"]}, {"exp": NOW_S - 61}, {"exp": None}, {"exp": "never"}, {"exp": True}, {"nbf": NOW_S + 61},
        {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": ["ann"]}, {"sub": "\u0430nn"}, {"sub": "ann "},
        {"sub": "ann\n"}, {"sub": "a" * 200}, {"sub": {"a": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_signed_token_that_says_something_else_shows_nobody(change):
    claims = {name: value for name, value in {**CLAIMS, **change}.items() if value is not None}
    with pytest.raises(Refused) as refused:
        caller_of(signed(claims))
    assert refused.value.code == "token_refused"


TWICE = b'{"alg":"RS256","alg":"RS256","kid":"one"}'


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_signed_token_that_is_signed_otherwise_shows_nobody():
    head, body, signature = signed().split(".")
    public = RSA.as_pem(private=False)
    claimed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{body}"
    forged = part(hmac.digest(public, claimed.encode(), "sha256"))
    other = RSAKey.generate_key(2048, parameters={"kid": "one"}, private=True)
    wrong = [
        f"{part({'alg': 'none'})}.{body}.", f"{part({'alg': 'none', 'kid': 'one'})}.{body}.{signature}",
        f"{claimed}.{forged}", signed(kid="three"), signed(kid=None),
        signed(key=other), f"{head}.{part({**CLAIMS, 'sub': 'bob'})}.{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}", f"{head}.{body}.{signature}.x", "", ".", "..", "a.b.c", "x" * (TOKEN_CHARACTERS_MAX + 1),
        f"{part(b'{')}.{body}.{signature}", f"{part([])}.{body}.{signature}",
        f"{part({'alg': 'RS256', 'kid': 'one', 'crit': ['exp']})}.{body}.{signature}",
        f"{part(TWICE)}.{body}.{signature}",
        signed(key=EC, alg="ES256", kid="one"), signed().replace(".", "\uff0e"),
    ]  # fmt: skip
    for text in wrong:
        with pytest.raises(Refused) as refused:
            caller_of(text)
        assert refused.value.code == "token_refused"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (signed({**CLAIMS, "exp": NOW_S - 61}), "it has ended"),
        (signed({**CLAIMS, "aud": "canary"}), "its audience is missing or not the one that is declared"),
        (signed({**CLAIMS, "nbf": NOW_S + 61}), "its beginning"),
        (signed(key=RSAKey.generate_key(2048, parameters={"kid": "one"}, private=True)), "its signature is not of"),
        (signed(kid="canary"), "a key that is not known"),
        (signed({**CLAIMS, "sub": "canary canary"}), "its claim `sub` names nobody"),
    ],
    ids=["ended", "audience", "beginning", "signature", "key", "claim"],
)
def test_signed_token_that_shows_nobody_is_told_why_in_words_and_nothing_of_what_it_holds(text, why):
    with pytest.raises(Refused, match=why) as refused:
        caller_of(text)
    assert "canary" not in str(refused.value)


def test_claim_that_stands_twice_shows_nobody():
    raw = b'{"iss":"https://id.example","aud":"assent","sub":"ann","sub":"bob","exp":%d}' % (NOW_S + 600)
    from joserfc import jws

    text = jws.serialize_compact({"alg": "RS256", "kid": "one"}, raw, RSA)
    with pytest.raises(Refused):
        caller_of(text)


PARTS = st.tuples(st.binary(max_size=60), st.binary(max_size=60)).map(lambda two: f"{part(two[0])}.{part(two[1])}.x")


@given(text=st.text(max_size=200) | PARTS)
@settings(max_examples=150, deadline=None)
def test_whatever_is_shown_ends_in_a_word(text):
    for read in (caller_of, issuer_of):
        with suppress(Refused):
            assert read(text) == "", "no issuer that is declared"


@pytest.mark.parametrize(
    "keys",
    [b"", b"{", b"[]", b"{}", b'{"keys":[]}', b'{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}', b'{"keys":7}',
     b'{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}],"keys":[]}', b"[" * 100_000,
     json.dumps({"keys": [RSA.as_dict(private=True)]}).encode(),
     json.dumps({"keys": [RSA.as_dict(private=False), RSA.as_dict(private=False)]}).encode()],
    ids=lambda one: f"{len(one) // 100}",
)  # fmt: skip
def test_set_that_holds_no_public_keys_is_refused(keys):
    with pytest.raises(Malformed):
        read_keys(keys)


def test_credential_is_taken_to_whoever_can_check_it(scene):
    async def body(bench: Bench) -> None:
        tokens = tokens_of(bench, scene)
        other = replace(PROVIDER, name="other", issuer="https://other.example", keys=KeySet([EC]))
        build = Workload(principal="service:build", names=("build.example",), on_behalf_of=ANN)
        signing_in = SigningIn(tokens=tokens, providers=(other, PROVIDER), workloads=(build,), clock=scene.clock)
        made = await tokens.make(ACME, by=ANN, principal=ANN, label="x", until_ms=scene.clock.now_ms() + DAY_MS)
        assert (await signing_in.by_token(ACME, made.text)).principal == ANN
        fresh = signed({**CLAIMS, "exp": scene.clock.now_ms() // 1_000 + 60})
        assert (await signing_in.by_token(ACME, fresh)).principal == ANN
        with pytest.raises(Refused, match="its issuer is not declared"):
            await signing_in.by_token(ACME, signed({**CLAIMS, "iss": "https://third.example"}))
        with pytest.raises(Refused, match="a key that is not known"):
            await signing_in.by_token(ACME, signed({**CLAIMS, "iss": "https://other.example"}))
        for nobody in ("", "x", "assent_", "a.b.c", f"{part([])}.{part([])}.x", f"{part({})}.{part([])}.x"):
            with pytest.raises(Refused):
                await signing_in.by_token(ACME, nobody)
        with pytest.raises(Refused):
            signing_in.by_certificate(ACME, b"no certificate")

    scene.run(body)


# Certificates


class Authority:
    """Somebody who signs certificates, for an hour."""

    def __init__(self, name: str = "authority") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key, [x509.BasicConstraints(ca=True, path_length=None)])

    def _signed(self, name: x509.Name, key: Any, more: list[Any], *, hours: int = 1) -> x509.Certificate:
        now = datetime.now(UTC)
        begins, ends = sorted((now - timedelta(hours=2), now + timedelta(hours=hours)))
        ends = now + timedelta(hours=hours)
        builder = (
            x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
        )  # fmt: skip
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        extensions = [
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
            *((one, isinstance(one, x509.BasicConstraints)) for one in more),
            *([(usage, True)] if any(isinstance(one, x509.BasicConstraints) for one in more) else []),
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, folder: Path, name: str, *sans: x509.GeneralName, hours: int = 1) -> tuple[Path, Path]:
        """A certificate and its key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._signed(subject, key, [x509.SubjectAlternativeName(sans)], hours=hours)
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def file(self, folder: Path) -> Path:
        path = folder / "authority.pem"
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path


SPIFFE = x509.UniformResourceIdentifier("spiffe://example.org/build")
BUILD = Workload(principal="service:build", names=("spiffe://example.org/build",), on_behalf_of="person:ann")
OTHER = Workload(principal="service:other", names=("other.example",), on_behalf_of="person:ann")


async def _meet(folder: Path, authority: Authority, client: tuple[Path, Path] | None) -> bytes | None:
    """A TLS connection over loopback; the client's certificate as the server saw it, None when it let nobody in."""
    server_pem = authority.issue(folder, "server", x509.DNSName("localhost"))
    context = server_context(authorities=authority.file(folder), certificate=server_pem[0], key=server_pem[1])
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        seen.append(der)
        writer.write(b"in")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    ours = ssl.create_default_context(cafile=folder / "authority.pem")
    if client:
        ours.load_cert_chain(*client)
    async with server:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ours, server_hostname="localhost")
            told = await reader.read(2)
            writer.close()
        except (ssl.SSLError, ConnectionError):
            return None
    return seen[0] if told == b"in" else None


def test_certificate_that_tls_has_verified_shows_the_workload_whose_name_is_in_it(tmp_path):
    authority = Authority()
    der = asyncio.run(_meet(tmp_path, authority, authority.issue(tmp_path, "build", SPIFFE)))
    assert der is not None
    found = shown((OTHER, BUILD), der).caller(ACME)
    assert (found.principal, found.on_behalf_of, found.may_answer) == ("service:build", FOR_ANN, False)


def test_nobody_is_let_in_without_a_certificate_of_the_authority_that_is_good_today(tmp_path):
    authority, stranger = Authority(), Authority()
    (tmp_path / "strange").mkdir()
    assert asyncio.run(_meet(tmp_path, authority, None)) is None
    assert asyncio.run(_meet(tmp_path, authority, stranger.issue(tmp_path / "strange", "build", SPIFFE))) is None
    assert asyncio.run(_meet(tmp_path, authority, authority.issue(tmp_path, "old", SPIFFE, hours=-1))) is None


@pytest.mark.parametrize(
    "sans",
    [
        [x509.DNSName("spiffe.example.org")], [x509.UniformResourceIdentifier("spiffe://example.org/build/")],
        [x509.UniformResourceIdentifier("spiffe://EXAMPLE.org/build")], [SPIFFE, x509.DNSName("other.example")],
        [SPIFFE, x509.UniformResourceIdentifier("spiffe://example.org/other")],
        [x509.UniformResourceIdentifier("other.example")], [x509.DNSName("*.example")],
        [x509.RFC822Name("ann@example.com")],
    ],
    ids=str,
)  # fmt: skip
def test_certificate_with_other_names_shows_nobody(tmp_path, sans):
    path, _ = Authority().issue(tmp_path, "service:build", *sans)
    der = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.DER)
    with pytest.raises(Refused):
        shown((OTHER, BUILD), der)


def test_declaration_that_would_show_a_person_or_anybody_is_a_fault():
    assert not workload_fault(BUILD)
    for change in (
        {"principal": "person:ann"}, {"principal": "build"}, {"names": ()}, {"names": ("*.example",)},
        {"names": ("a b",)}, {"names": ("\u0430.example",)}, {"on_behalf_of": ""}, {"on_behalf_of": "agent:x"},
    ):  # fmt: skip
        assert workload_fault(replace(BUILD, **change)), change
