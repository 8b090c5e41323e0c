"""Which sources a collection may read: those below its declared roots, and no others.

`refusal` looks at names only and is asked before anything is opened or connected to. `target_refusal` follows symbolic links
and is asked right before a local file is read.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence

_LOCAL = "file"
# Other spellings of one scheme.
_ALIASES = {"s3a": "s3"}
_HOW = "to allow it, name its folder in [collection] roots"


def refusal(uri: str, roots: Sequence[str]) -> str | None:
    """Why `uri` may not be read, in a sentence, or None. Pure: asks no file system and no network.

    uri: an absolute path, file:// with an absolute path, or another scheme with host (bucket) and path. roots: the same.
    """
    scheme, host, path = _split(uri)
    if "\0" in uri:
        return f"{uri!r} holds a zero byte, which no name can"
    if scheme == _LOCAL and (host or not path.startswith("/")):
        return f"{uri} names no absolute path on this machine"
    if scheme != _LOCAL and any(part in (".", "..") for part in path.split("/")):
        return f"{uri} holds a step (. or ..) that stores read in different ways; write the key as it is"
    if any(_below((scheme, host, path), _split(root)) for root in roots):
        return None
    return f"{uri} lies outside the collection's roots ({', '.join(roots) or 'none'}); {_HOW}"


def target_refusal(path: str, roots: Sequence[str]) -> str | None:
    """Why the local file `path`, with every symbolic link on the way followed, may not be read, or None.

    Only looks links up. A link that is changed between this look and the reading is not noticed: who can write below a root
    is trusted with what lies there.
    """
    try:
        target = os.path.realpath(path)
        real_roots = [os.path.realpath(place) for scheme, _, place in map(_split, roots) if scheme == _LOCAL]
    except (OSError, ValueError) as error:
        return f"{path!r} cannot be followed: {error}"
    if any(_below((_LOCAL, "", target), (_LOCAL, "", root)) for root in real_roots):
        return None
    return f"{path} leads to {target}, outside the collection's roots ({', '.join(roots) or 'none'}); {_HOW}"


def _split(uri: str) -> tuple[str, str, str]:
    """Scheme, host or bucket, path. A local path has its steps taken; what is no URI is local."""
    if "://" not in uri:
        return _LOCAL, "", _stepped(uri)
    scheme, _, rest = uri.partition("://")
    if scheme == _LOCAL:
        host, slash, path = rest.partition("/")
        return _LOCAL, host, _stepped(slash + path)
    host, _, path = rest.partition("/")
    return _ALIASES.get(scheme, scheme), host, path


def _stepped(path: str) -> str:
    plain = posixpath.normpath(path) if path else ""
    # POSIX lets two leading slashes mean another thing; Linux does not.
    return "/" + plain.lstrip("/") if plain.startswith("//") else plain


def _below(place: tuple[str, str, str], root: tuple[str, str, str]) -> bool:
    same_store = place[:2] == root[:2]
    if place[0] == _LOCAL:
        same_store = same_store and root[2].startswith("/")
    inside = root[2].rstrip("/") + "/"
    return same_store and (inside == "/" or place[2].rstrip("/") + "/" == inside or place[2].startswith(inside))
