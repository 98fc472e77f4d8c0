"""What a model is told and what it proposes. Nothing here acts: reasoning makes values, operations carry them on."""
