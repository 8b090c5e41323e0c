"""A job holds no credentials: they come from the environment or the cluster. What looks like one is refused by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# Variables whose values are secrets; a job that repeats one of them would carry it into run.json.
VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RAY_AUTH_TOKEN",
    "RAY_REDIS_PASSWORD",
)
# Shorter values (a test's `key`, a user's name) would be found in innocent words.
_SHORTEST = 12
_NAME = re.compile(
    r"(^|_)(secret|password|passwd|passphrase|token|credentials?|(access|api|private|secret)_?key(_id)?)($|_)", re.I
)
# What a signed address carries.
_QUERY = re.compile(r"signature|credential|token|secret|password|access_?key|^sig$", re.I)
_LOOKS = (
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), "an access key of AWS"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
)
# Secrets of AWS may hold a slash, behind which nothing would count as the address's host any more.
_USER = re.compile(r"://([^/]*@|[^/@:]*:(?!\d{1,5}(/|$))[^@]*@)")
_ADVICE = (
    "a job holds no credentials, they come from the environment or the cluster (AWS_ACCESS_KEY_ID, RAY_AUTH_TOKEN ...)"
)


def credential_faults(data: Mapping[str, Any]) -> dict[str, str]:
    """What of a job looks like a credential: a sentence for each key, which names the key and never repeats the value."""
    known = {name: value for name in VARIABLES if len(value := os.environ.get(name, "")) >= _SHORTEST}
    faults: dict[str, str] = {}
    for path, value in _leaves(data, ()):
        where = ".".join(path)
        if why := _why(path[-1], value, known):
            faults[where] = f"{where}: {why}; {_ADVICE}"
    return faults


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(number)))
    elif path:
        yield path, value


def _why(key: str, value: Any, known: Mapping[str, str]) -> str | None:
    if _NAME.search(key):
        return "this key is for a secret"
    if not isinstance(value, str):
        return None
    for name, secret in known.items():
        if secret in value:
            return f"its value holds that of {name}"
    for pattern, what in _LOOKS:
        if pattern.search(value):
            return f"its value holds {what}"
    return _in_address(value)


def _in_address(value: str) -> str | None:
    if "://" not in value:
        return None
    if _USER.search(value):
        return "its address holds a user or a password"
    try:
        address = urlsplit(value)
    except ValueError:
        return None
    if any(_QUERY.search(name) for name, _ in parse_qsl(address.query)):
        return "its address is a signed one"
    return None
