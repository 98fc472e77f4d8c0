-- How much of each limit is gone in each of its windows, and what found no room there: a projection of the log that
-- `verify` recomputes. Whole numbers only; money is counted in millionths.
CREATE TABLE budgets (
    tenant   TEXT    NOT NULL,
    scope    TEXT    NOT NULL,
    unit     TEXT    NOT NULL,
    per      TEXT    NOT NULL,
    since_ms INTEGER NOT NULL,
    most     INTEGER NOT NULL,
    spent    INTEGER NOT NULL,
    held     INTEGER NOT NULL,
    stops    INTEGER NOT NULL,
    stopped  TEXT    NOT NULL,
    asked    INTEGER NOT NULL,
    PRIMARY KEY (tenant, scope, unit, per, since_ms)
);
CREATE INDEX budgets_stopped ON budgets (tenant) WHERE stops > 0;

-- What effects hold that are not settled yet, as JSON `[[scope, unit, per, since_ms, amount], …]`: it is taken whole and
-- ended whole, so it is one row. `held` above is the sum.
CREATE TABLE budget_holds (
    tenant TEXT NOT NULL,
    effect TEXT NOT NULL,
    holds  TEXT NOT NULL,
    PRIMARY KEY (tenant, effect)
);
