"""Concrete lanes and sandboxes; only bootstrap and testing name them."""
