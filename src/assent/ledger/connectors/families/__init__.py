"""Families: connectors made, not written. Each reads somebody's description and makes operations of it. Pure.

A family yields *entries*: contracts with what is needed to carry them out (`entries`). A person admits them, and what
was admitted is what is offered from then on (`admissions`): a description that changes later changes nothing until
somebody admits the difference.

The descriptions are third-party words. Nothing in one decides what policy would decide: what it does not say for
certain counts as irreversible, defaults are never filled in for the asker, hosts are fixed when it is admitted, and its
texts are shown and never followed.
"""

from __future__ import annotations
