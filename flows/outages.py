"""What a server or a database that cannot be used means for the user: one line that says what, where and what to do."""

import os
import re
import sqlite3

_NO_ANSWER = re.compile(r"failed with (timeout )?exception|Max retries|Failed to reach API|Connection (refused|reset)")
_NOT_LET_IN = re.compile(r"failed with error code 40[13]|Client error '40[13]|error_code: '?40[13]|PERMISSION_DENIED")
_LOCKED = re.compile(r"database (table )?is locked")
_OF_MLFLOW, _OF_PREFECT = ("mlflow.", "requests.", "urllib3."), ("prefect.", "httpx.", "httpcore.")


def outage(error: BaseException) -> str | None:
    """Return what keeps a server or a database from being used, in one line; None where that is not what failed."""
    for found in _chain(error):
        said = _said(found)
        if said is not None:
            return said
    return None


def _said(error: BaseException) -> str | None:
    module, text = type(error).__module__ + ".", str(error)
    if _LOCKED.search(text) and (module.startswith(("sqlalchemy.", *_OF_MLFLOW)) or isinstance(error, sqlite3.Error)):
        return f"another program keeps {_store()} locked; wait, or end it"
    if module.startswith(_OF_MLFLOW):
        name, address = "MLflow", _address("MLFLOW_TRACKING_URI")
        users = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    elif module.startswith(_OF_PREFECT) or "Failed to reach API at" in text:
        name, address, users = "Prefect", _address("PREFECT_API_URL"), "PREFECT_API_AUTH_STRING (user:password)"
    else:
        return None
    if _NOT_LET_IN.search(text):
        return f"{name} at {address} does not let this user in; set {users} in the environment"
    if _NO_ANSWER.search(text) or isinstance(error, ConnectionError) or "Connect" in type(error).__name__:
        return f"{name} at {address} does not answer; see whether it runs"
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error, and what it came of, the error itself first."""
    found: list[BaseException] = []
    rest = [error]
    while rest:
        one = rest.pop(0)
        if one in found:
            continue
        found.append(one)
        rest += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        rest += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
    return found


def _address(variable: str) -> str:
    """Return a server's address without a password that stands in it."""
    return re.sub(r"//[^/@]*@", "//", os.environ.get(variable, "its address"))


def _store() -> str:
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    return store.removeprefix("sqlite:///") if store.startswith("sqlite:///") else "the database"
