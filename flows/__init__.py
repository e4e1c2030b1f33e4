"""Prefect flows, each one screen: the body is the pipeline, top to bottom."""
