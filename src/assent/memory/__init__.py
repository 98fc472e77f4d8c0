"""Memory: what is recalled, for whom, and how old it is. Recall is read-only; nothing here is written by a model."""
