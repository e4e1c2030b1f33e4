"""A registered model leaves the registry: `python -m flows export <model> <directory>`."""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Write a registered model as a directory; return 0, or 2 for a model or a directory that cannot be used."""
    options = _parser().parse_args(arguments)
    from flows.environment import set_environment

    set_environment()
    from transformers.utils.logging import set_verbosity_error

    from tasks.export import export

    set_verbosity_error()
    try:
        print(export(options.model, Path(options.directory)))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows export",
        description="Write a registered model, its cards and its lineage as a directory that transformers, lm-eval and "
        "vLLM load.",
    )
    parser.add_argument(
        "model",
        help="starter-assistant (its champion), starter-assistant@challenger, starter-assistant/3, or what a recipe "
        "made here: recipes/starter.yaml:assistant",
    )
    parser.add_argument("directory", help="a new or an empty directory")
    return parser
