"""What goes wrong with Redis, as errors of ours: what it is, what it means, what to do, and no word of the server's."""

from __future__ import annotations

import re
import ssl
from typing import Final

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from tribe_oauth._remedies import is_about_a_certificate, reason, remedy
from tribe_oauth.errors import StoreError, named
from tribe_oauth.stores._columns import AlteredError


class NotThereError(RedisError):
    """It is another kind of server, or none knows it. The text is a sentence that names the remedy."""


SENTINEL: Final = (
    "the Redis URL names a Sentinel, which keeps no data: write redis+sentinel://host:26379/name, with the name that"
    " its master has"
)
REFUSED_BY_SENTINEL: Final = (
    "Sentinel refused user and password, which are not those of the servers: look at ?sentinel_username=… and"
    " sentinel_password=… in the URL"
)
_WITHOUT_CODE: Final = (
    (re.compile("unknown command .?SENTINEL", re.IGNORECASE), "NOSENTINEL"),
    (re.compile("cluster support disabled", re.IGNORECASE), "NOCLUSTER"),
    (re.compile(r"unknown command|can't run this command|ACL failure in script", re.IGNORECASE), "NOPERM"),
    (re.compile("without any password configured|no password is set", re.IGNORECASE), "NOPASS"),
    (re.compile("closed by server", re.IGNORECASE), "CLOSED"),
    (re.compile("max number of clients", re.IGNORECASE), "MAXCLIENTS"),
)
_REMEDIES: Final = {
    "READONLY": (
        "Redis can only be read there (READONLY): after a fail-over, the next call finds the new primary when the URL"
        " leads there; else look whether it names a replica"
    ),
    "NOAUTH": "Redis wants a password (NOAUTH): put it into the URL, redis://user:password@host",
    "WRONGPASS": "Redis refused user and password (WRONGPASS): look at those in the URL",
    "NOPASS": "Redis wants no password, and the URL has one: take it away, or set it there (requirepass, ACL SETUSER)",
    "NOPERM": (
        "Redis does not allow its user to do this (NOPERM): allow it by ACL SETUSER the store's keys,"
        " ~tribe_oauth:* or those of its prefix, and the commands +@scripting +@read +@write +time +role +config|get"
    ),
    "NOCLUSTER": "the Redis URL names a server that is no cluster: write redis://host:port",
    "NOSENTINEL": "the Redis URL names a server that is no Sentinel: write redis://host:port, or Sentinel's port",
    "MOVED": (
        "the Redis URL names one server of a cluster (MOVED), and this organization is on another: write"
        " redis+cluster://host:port,host:port"
    ),
    "WRONGTYPE": (
        "a key of the store has a value of another type (WRONGTYPE), which something else wrote: rename that key, or"
        " give the store a prefix of its own"
    ),
    "NOSCRIPT": "what stands before Redis knows no scripts (NOSCRIPT): name the server itself",
    "OOM": "Redis is full (OOM): raise its maxmemory, or make room; a policy that evicts would lose connections",
    "MISCONF": "Redis cannot write to its disk and takes no writes (MISCONF): look at its log, and at its disk",
    "LOADING": "Redis is still loading what it has (LOADING): wait",
    "BUSY": "Redis is busy with a script of another program (BUSY): wait, or end it by SCRIPT KILL",
    "MASTERDOWN": "Redis is a replica without its primary (MASTERDOWN): look whether that runs",
    "CLUSTERDOWN": "the Redis cluster is not whole (CLUSTERDOWN): look at CLUSTER INFO",
    "NOREPLICAS": "Redis has too few replicas to take writes (NOREPLICAS): look whether they run",
    "CROSSSLOT": "something before Redis moves keys between its slots (CROSSSLOT): name the servers themselves",
    "MAXCLIENTS": "Redis has no connection left (MAXCLIENTS): raise maxclients, or make pool_size smaller",
    "CLOSED": (
        "Redis cut the connection: look whether it runs, whether that port has TLS (then write rediss://), and into its"
        " log"
    ),
    "TLS": (
        "TLS with Redis failed: write redis:// where that port has none, and rediss:// where it has, with ssl_ca_certs"
        " where its certificate is of an authority of your own"
    ),
    "PROTOCOL": (
        "what answers there does not speak Redis's protocol: look at host and port; rediss:// where that port has TLS"
    ),
}
_CODES: Final = re.compile(rf"\b({'|'.join(code for code in _REMEDIES if code.isupper())})\b")
"""They stand first, or, of a script, amid the text."""
_BY_TYPE: Final = (
    (NoPermissionError, "NOPERM"),
    (AskError, "MOVED"),  # and MovedError, which is one
    (InvalidResponse, "PROTOCOL"),
    (AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
    (AuthenticationError, "WRONGPASS"),
)


def code_of(error: BaseException) -> str:
    """What a server says, in a word: its code, or one of ours; else the name of the error's type."""
    said = str(error)
    if found := _CODES.search(f"{getattr(error, 'status_code', None)} {said}"):
        return found[0]
    if isinstance(error, AuthenticationError) and "required" in said:
        return "NOAUTH"
    if isinstance(error, ResponseError | RedisError):
        for pattern, code in _WITHOUT_CODE:
            if pattern.search(said):
                return code
    for kind, code in _BY_TYPE:
        if isinstance(error, kind):
            return code
    return "TLS" if _is_tls(error) else type(error).__name__


def _is_tls(error: BaseException | None) -> bool:
    """Whether it began with TLS: the driver makes an error of its own of it."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def store_error(error: Exception, timeout: float, organization: str | None = None) -> StoreError:
    """What went wrong, with the remedy, and without the server's words. `organization`: whose record it was about."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, NotThereError):
        return StoreError(str(error))
    code = code_of(error)
    if code == "WRONGTYPE":
        return AlteredError(f"{named(organization)}: {_REMEDIES[code]}", organization=organization)
    of_certificate = is_about_a_certificate(error)
    if code in _REMEDIES and not of_certificate:
        return StoreError(_REMEDIES[code])
    if advice := remedy(error, ""):
        more = "; ssl_ca_certs in the URL can name that file too" if of_certificate else ""
        return StoreError(f"no connection to Redis ({reason(error)}): {advice}{more}")
    if isinstance(error, TimeoutError | OSError):
        return StoreError(
            f"Redis did not answer within {timeout:g} s: look whether it runs; rediss:// needs a port with TLS"
        )
    return StoreError(f"Redis failed ({code}): look whether it runs, and into its log")
