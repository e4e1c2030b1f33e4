"""The Hugging Face hub, which is asked only where a recipe names something there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

BY_DEFAULT = "ALMA_HUB_OFFLINE_BY_DEFAULT"
"""Set where it is Alma, and not the user, that keeps the libraries off the hub."""


def stay_offline() -> None:
    """Keep the hub's libraries from the network, in this process and those it starts, unless the user has spoken."""
    if "HF_HUB_OFFLINE" not in os.environ:
        os.environ |= {"HF_HUB_OFFLINE": "1", BY_DEFAULT: "1"}


@contextmanager
def reached() -> Iterator[None]:
    """Let the libraries reach the hub for the block; a user's own HF_HUB_OFFLINE=1 keeps them off, cache apart."""
    if BY_DEFAULT not in os.environ:
        yield
        return
    import datasets
    import huggingface_hub.constants as hub

    before = hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
