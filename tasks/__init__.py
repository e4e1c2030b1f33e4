"""Prefect tasks: one step a file, and what a step is made of."""
