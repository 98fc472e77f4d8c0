"""Providers: signed tokens (JWT) of an identity provider, such as OpenID Connect gives.

What is refused, whatever a token says of itself: an algorithm that is not on the list (`none` and shared secrets cannot
be on it), another issuer or audience, no end or one that is over, no key of that name, a key twice in one object, too
much text. A claim is mapped to a name here and to nothing else: which roles somebody has is for the settings to say.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwk import KeySet

from assent.operations.identity.callers import Caller
from assent.policy.principals import chain_fault
from assent.primitives.errors import Malformed, Refused
from assent.primitives.ids import TenantId

TOKEN_CHARACTERS_MAX = 16_384
KEYS_BYTES_MAX = 262_144
LEEWAY_S = 60
ALGORITHMS = frozenset({
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
})  # fmt: skip
"""Those that can be on a list: who checks a signature cannot make one."""
DEFAULT_ALGORITHMS = ("RS256", "ES256", "EdDSA")
KINDS = ("person", "service")
_CLAIMS = {"iss": "issuer", "aud": "audience", "exp": "end", "nbf": "beginning", "iat": "time of issue"}


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer of tokens. The claim `claim` names a `kind` (`person`, `service`); a service acts for `on_behalf_of`,
    a person may answer reviews where `may_answer` says so.
    `keys` is the provider's JSON Web Key Set, of public keys alone."""

    name: str
    issuer: str
    audience: str
    keys: KeySet
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    claim: str = "sub"
    kind: str = "person"
    on_behalf_of: str = ""
    may_answer: bool = False

    def caller(self, tenant: TenantId, text: str, *, now_ms: int) -> Caller:
        """Whom a token shows.

        Raises:
            Refused: `token_refused`, saying what is wrong with it and nothing of what it holds.
        """
        claims = self._claims(text, now_ms // 1_000)
        named = claims.get(self.claim)
        principal = f"{self.kind}:{named}"
        chain = (self.on_behalf_of,) if self.kind == "service" else ()
        if not isinstance(named, str) or chain_fault(principal, chain):
            raise _refused(f"its claim `{self.claim}` names nobody that there can be")
        return Caller(
            tenant=tenant, principal=principal, on_behalf_of=chain, shown_by=f"a token of `{self.name}`",
            may_answer=self.may_answer and self.kind == "person",
        )  # fmt: skip

    def _claims(self, text: str, now_s: int) -> Mapping[str, Any]:
        header = _header(text)
        if header.get("alg") not in self.algorithms:
            raise _refused("it is signed in a way that is not on the list")
        known = {key.kid for key in self.keys.keys}
        if (len(known) > 1 or header.get("kid") is not None) and header.get("kid") not in known:
            raise _refused("it is signed with a key that is not known here")
        try:
            token = jwt.decode(text, self.keys, algorithms=[*self.algorithms], decoder_cls=_Once)
            jwt.JWTClaimsRegistry(
                now=now_s,
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.issuer},
                aud={"essential": True, "value": self.audience},
                exp={"essential": True},
            ).validate(token.claims)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise _refused(_words(error)) from None
        return token.claims


def issuer_of(text: str) -> str:
    """Who says to have issued a token: that chooses the provider, whose keys then have to bear it out.

    Raises:
        Refused: `token_refused`: it is no signed token.
    """
    _header(text)
    found = _part(text, 1)
    return found["iss"] if isinstance(found, dict) and isinstance(found.get("iss"), str) else ""


def read_keys(data: bytes) -> KeySet:
    """The public keys of a provider, from its JSON Web Key Set.

    Raises:
        Malformed: `keys_malformed`: it is none, holds no key, or one that is not public.
    """
    try:
        document = json.loads(data[: KEYS_BYTES_MAX + 1], cls=_Once)
        public = [one for one in document["keys"] if one.get("kty") != "oct" and "d" not in one]
        keys = KeySet.import_key_set({"keys": public})
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_keys(str(error)[:200]) from None
    if not public or len(public) < len(document["keys"]):
        raise _no_keys("it holds no key, or one that is not public")
    if len({key.kid for key in keys.keys}) < len(keys.keys):
        raise _no_keys("two of its keys have one name (`kid`)")
    return keys


def _words(error: Exception) -> str:
    """What is wrong with a token, in words of ours: the library's may quote what it holds."""
    match error:
        case BadSignatureError():
            return "its signature is not of the key that it names"
        case ExpiredTokenError():
            return "it has ended"
        case MissingClaimError() | InvalidClaimError() if error.claim in _CLAIMS:
            return f"its {_CLAIMS[error.claim]} is missing or not the one that is declared"
        case _:
            return "it cannot be read"


class _Once(json.JSONDecoder):
    """JSON in which a key stands once: two readers of `{"sub":1,"sub":2}` could see two people."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 (what `json.loads` passes on)
        super().__init__(**{**given, "object_pairs_hook": _unique})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _header(text: str) -> Mapping[str, Any]:
    """The header, read before anything is believed: it says which key and which algorithm are claimed."""
    if len(text) > TOKEN_CHARACTERS_MAX or not text.isascii() or text.count(".") != 2:
        raise _refused("it is no signed token")
    found = _part(text, 0)
    if not isinstance(found, dict) or "crit" in found or found.get("b64", True) is not True:
        raise _refused("its header asks for what is not understood")
    return found


def _part(text: str, at: int) -> object:
    part = text.split(".")[at]
    try:
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), cls=_Once)
    except (binascii.Error, ValueError, RecursionError):
        raise _refused("it cannot be read") from None


def _no_keys(why: str) -> Malformed:
    return Malformed("keys_malformed", f"this is no set of public keys: {why}")


def _refused(why: str) -> Refused:
    return Refused("token_refused", f"this token shows nobody here: {why}")
