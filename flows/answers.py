"""A person's word from the terminal: `python -m flows approve <version>` and `python -m flows rollback <model>`."""

import argparse
import os
import sys


def main(arguments: list[str]) -> int:
    """Run approve or rollback; return 0, or 2 for what cannot be done, in one line."""
    options = _parser(arguments[0]).parse_args(arguments[1:])
    from flows.environment import set_environment

    set_environment()
    from flows.approve import approve, say
    from flows.rollback import rollback, take_back
    from tasks.approval import Answer

    # On the page where there is one; in a hurry nobody waits for a server to start.
    paged = "PREFECT_API_URL" in os.environ
    try:
        if arguments[0] == "rollback":
            print((rollback if paged else take_back)(options.model, options.reason))
        else:
            given: Answer = "reject" if options.reject else "approve"
            print((approve if paged else say)(options.version, options.reason, given))
    except ValueError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser(command: str) -> argparse.ArgumentParser:
    if command == "rollback":
        parser = argparse.ArgumentParser(
            prog="python -m flows rollback",
            description="Let the alias champion of a registered model return to the version that was champion before. "
            "What is taken back does not become champion again by itself, under whatever number: approve lets it.",
        )
        parser.add_argument("model", help="a registered model, starter-reviews for example")
    else:
        parser = argparse.ArgumentParser(
            prog="python -m flows approve",
            description="Approve or reject a version that passed every gate and waits for a person, since the policy "
            "asks for one; or let a version return that was rolled back. What the gate refused cannot be approved.",
        )
        parser.add_argument("version", help="a registered version, starter-reviews/3 for example")
        parser.add_argument("--reject", action="store_true", help="refuse the version")
    parser.add_argument("--reason", required=True, help="why; kept with the version, with your name and the time")
    return parser
