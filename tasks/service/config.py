"""What can be set about the service, and its key."""

import ipaddress
import os
import socket
from pathlib import Path

from pydantic import Field

from models.config import Config

KEY = "ALMA_API_KEY"
SHORTEST_KEY = 16


class ServiceConfig(Config):
    """Where the service listens, and how much it takes on."""

    host: str = "127.0.0.1"
    """Address to listen on; any other than loopback needs a key in ALMA_API_KEY."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0: any that is free."""
    body_bytes: int = Field(default=1 << 20, ge=1)
    """Bytes of a request, at most."""
    inputs: int = Field(default=64, ge=1)
    """Texts or questions of one request, at most."""
    passage_tokens: int = Field(default=8192, ge=1)
    """Tokens of a text that a question is asked about, at most; it is read in windows."""
    new_tokens: int = Field(default=256, ge=1)
    """Tokens of an answer in a chat, at most, whatever a request asks for."""
    queue: int = Field(default=64, ge=1)
    """Requests that wait, at most; those beyond are told to come again (429)."""
    every: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Seconds between two looks at the registry."""
    record: Path | None = None
    """File that gets a JSON line with the input and the output of each request; without it nothing is kept of them."""


def api_key() -> str | None:
    """Return the key that requests must carry, None where none is set; ValueError for one that protects nothing."""
    key = os.environ.get(KEY)
    if key is None:
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(f"{KEY}: expected printable ASCII characters without a space, which a header can carry")
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"{KEY} has {len(key)} characters, expected at least {SHORTEST_KEY}, or unset it")
    return key


def listen(host: str, port: int, key: str | None) -> socket.socket:
    """Return a socket that listens; ValueError in one line where it cannot, or must not without a key."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host is {host!r}: {error}") from None
    family, _, _, _, address = found[0]
    if key is None and not all(is_loopback(str(each[4][0])) for each in found):
        raise ValueError(f"--host is {host}: without a key in {KEY} the service listens on loopback alone")
    try:
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise ValueError(f"--port is {port}: cannot listen on {host} ({os.strerror(error.errno or 0)})") from None


def is_loopback(host: str) -> bool:
    """Return whether an address, or the name localhost, is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
