"""Policy: who may do what, under which conditions, and the only hand that mints grants. Judges; never acts."""
