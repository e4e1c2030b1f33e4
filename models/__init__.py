"""Torch and Lightning only: what trains on a bare GPU machine, without Prefect, MLflow or DVC."""
