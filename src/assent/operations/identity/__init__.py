"""Identity: who asks, shown by something that can be checked.

    a token that a person made      tokens.py         looked up in the record, by a digest
    a signed token of a provider    providers.py      checked against the provider's public keys
    a certificate of a workload     certificates.py   mapped by the names in it, once TLS has verified it

Whatever it was shown by, it gives a `Caller`: a principal with its chain, and what it may do under this credential. A
credential narrows and never widens: what the caller may do is still for policy to say.
"""
