"""The command line: words in, use cases, sentences (or one JSON document) out."""
