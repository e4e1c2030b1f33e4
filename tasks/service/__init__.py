"""The champions behind HTTP: one small service that follows the registry."""
