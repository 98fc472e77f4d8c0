"""The policy a new installation starts with: `starter.cedar`, and `starter_tests.toml` with each rule both ways."""
