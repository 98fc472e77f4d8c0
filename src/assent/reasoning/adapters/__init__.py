"""The wire formats of model providers, one module each. They turn values into bytes and back, and open no socket."""
