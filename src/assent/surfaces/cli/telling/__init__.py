"""How results are told to people: the plain sentence first, ids last."""
