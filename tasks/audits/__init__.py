"""Bias audits: one audit a file; each takes a scoring callable and no model class."""
