"""Certificates: which workload is at the other end of a TLS connection.

TLS verifies the certificate: its chain, its time, that the peer has the key. What is left to say is whom it shows, by
the names in it that an authority has signed: a SPIFFE id (a URI) or a DNS name. The common name counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from cryptography import x509

from assent.operations.identity.callers import Caller
from assent.policy.principals import chain_fault
from assent.primitives.errors import Refused
from assent.primitives.ids import TenantId

SPIFFE = "spiffe://"


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """An agent or a service that a certificate with one of `names` shows, and on whose behalf it acts."""

    principal: str
    names: tuple[str, ...]
    on_behalf_of: str

    def caller(self, tenant: TenantId) -> Caller:
        """It, as somebody of a tenant."""
        return Caller(
            tenant=tenant, principal=self.principal, on_behalf_of=(self.on_behalf_of,), shown_by="a certificate"
        )


def shown(workloads: Iterable[Workload], certificate: bytes) -> Workload:
    """Which workload a verified certificate (DER) shows.

    Raises:
        Refused: `certificate_refused`: it names none that is declared here, or several.
    """
    said = names_in(certificate)
    found = [one for one in workloads if said.intersection(one.names)]
    if len(found) != 1:
        why = "shows several at once" if found else "shows nobody here"
        raise Refused("certificate_refused", f"the certificate {why}", hint="see `[workloads]`")
    return found[0]


def names_in(certificate: bytes) -> frozenset[str]:
    """The names that an authority has signed for it: its one URI, which is a SPIFFE id (a certificate with several
    shows nothing by them, as SPIFFE's X.509-SVID says), and its DNS names; none of what is no certificate."""
    try:
        found = x509.load_der_x509_certificate(certificate)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = names.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound):
        return frozenset()
    ids = uris if len(uris) == 1 and uris[0].startswith(SPIFFE) else []
    return frozenset((*ids, *(host for host in hosts if not host.startswith(SPIFFE))))


def workload_fault(workload: Workload) -> str:
    """What is wrong with a declaration, or an empty string."""
    if workload.principal.startswith("person:"):
        return "a certificate shows agents and services; people sign in"
    for name in workload.names:
        if not name.isascii() or not name or "*" in name or any(char.isspace() for char in name):
            return f"`{name[:200]}` is not one whole SPIFFE id or DNS name"
    if not workload.names:
        return "no certificate shows it: `names` is empty"
    return chain_fault(workload.principal, (workload.on_behalf_of,))
