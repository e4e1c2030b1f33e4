"""The alias `champion` returns to the version before, with the reason."""

from prefect import flow

from flows.watching import watched
from tasks import ledger
from tasks.announce import announce


@flow
@watched
def rollback(model: str, reason: str, name: str = "") -> str:
    """Let the alias champion of a model return to the version before.

    Args:
        model: A registered model, starter-reviews for example.
        reason: Why; kept with both versions.
        name: Who asks for it; empty: the user that the flow runs as.
    """
    return take_back(model, reason, name)


def take_back(model: str, reason: str, name: str = "") -> str:
    """Do what the flow does, without a server; ValueError in one line for what cannot be taken back."""
    move = ledger.roll_back(model, reason, name.strip() or ledger.whoami())
    announce(model, move.version)
    back = f"version {move.before} was rolled back by {move.by}: {move.reason}"
    return f"{model}: version {move.version} is champion again; {back}"
