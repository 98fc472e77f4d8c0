"""Acts, knows no meaning: orders, lanes, targets, sandboxes, evidence."""
