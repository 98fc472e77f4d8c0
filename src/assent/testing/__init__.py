"""What tests of Assent, and of things built on it, are made of: a clock to set, seeded chance, scripted lanes, faults,
reference models and the suites that every adapter of a port must pass. Shipped and public."""
