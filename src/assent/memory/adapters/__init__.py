"""Where memory is kept: in the process, or in declared files."""
