"""How each kind of model is scored on held-out rows: one file a kind, found by its name."""
