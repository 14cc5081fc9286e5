"""What errors of the operating system and of TLS mean: the reason, and what to do. May be imported by every room."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Final

# Only those for which the general advice of the places that meet them would be wrong.
_BY_ERRNO: Final[Mapping[int, str]] = {
    errno.ENOENT: "it is gone, or its folder is: look for what removes it",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "the quota is used up: make room, or have it raised",
    errno.EFBIG: "no file may become so large here: raise the limit (ulimit -f), or use another file system",
    errno.EROFS: "that file system is mounted read-only: mount it for writing, or name a place on another one",
    errno.EIO: "the disk fails: look into the system's log",
    errno.ESTALE: "the network file system has lost it: mount it again",
    errno.EMFILE: "this process has too many files open: raise the limit (ulimit -n)",
    errno.ENFILE: "this machine has too many files open: raise its limit, or end what has so many",
    errno.ENOLCK: "that file system has no locks: use a local disk",
    errno.ENOSYS: "that file system cannot do this: use a local disk",
    errno.EOPNOTSUPP: "that file system cannot do this: use a local disk",
    errno.ENETUNREACH: "there is no network, or no way to that address: look at this machine's network",
    errno.EHOSTUNREACH: "there is no way to that address: look at the network and its firewalls",
}
# OpenSSL's x509_vfy.h
_BY_CERTIFICATE: Final[Mapping[int, str]] = {
    9: "it is not valid yet: set this machine's clock, or have the server's certificate mended",
    10: "it has expired: set this machine's clock, or have the server's certificate renewed",
    62: "it belongs to another name: check the address, and who answers there",
    64: "it belongs to another address: check the address, and who answers there",
}
_UNKNOWN_AUTHORITY: Final = (
    "this machine does not trust its authority: where it is your own or a proxy's, name its file in SSL_CERT_FILE;"
    " where you know of none, find out who answers there"
)


def reason(error: BaseException) -> str:
    """What happened, in the words of the system or of TLS; the error's name where it has none."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is refused, {getattr(cause, 'verify_message', 'and TLS does not say why')}"
    return getattr(cause, "strerror", None) or type(error).__name__


def remedy(error: BaseException, otherwise: str) -> str:
    """What to do; `otherwise`: the advice for an error that has none of its own."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _BY_CERTIFICATE.get(getattr(cause, "verify_code", 0), _UNKNOWN_AUTHORITY)
    if not isinstance(cause, OSError) or isinstance(cause, ssl.SSLError | socket.gaierror):
        return otherwise  # the numbers of the latter two are their own
    return _BY_ERRNO.get(cause.errno or 0, otherwise)


def is_about_a_certificate(error: BaseException) -> bool:
    """Whether TLS refused a server's certificate. To try again is of no use then."""
    return isinstance(_cause(error), ssl.SSLCertVerificationError)


def _cause(error: BaseException) -> BaseException:
    """The error of the system, or of TLS, that a library has wrapped in its own."""
    found: BaseException | None = error
    while found is not None:
        inner = getattr(found, "certificate_error", None) or getattr(found, "os_error", None) or found
        if isinstance(inner, OSError):
            return inner
        found = found.__cause__ or found.__context__
    return error
