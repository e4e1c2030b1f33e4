"""Which split a row belongs to: a pure function of its content, so that other rows never move it."""

import hashlib


def choose_split(digest: str, valid_share: float, test_share: float, seed: int) -> str:
    """Return "train", "valid" or "test" for a content digest, each with its share of all possible digests.

    The digest is hashed again with the seed and read as a fraction of 2**64: test below `test_share`, valid
    below `test_share + valid_share`, else train. Equal contents thus never stand on two sides.
    """
    seeded = hashlib.sha256(f"{seed}:{digest}".encode()).digest()
    fraction = int.from_bytes(seeded[:8], "big") / 2**64
    if fraction < test_share:
        return "test"
    return "valid" if fraction < test_share + valid_share else "train"
