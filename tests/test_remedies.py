"""What errors of the system and of TLS are told as."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import pytest

from tribe_oauth._remedies import is_about_a_certificate, reason, remedy


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "make room on that disk"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "mounted read-only"),
        (errno.EIO, "the disk fails"),
        (errno.ESTALE, "mount it again"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "too many files open"),
        (errno.ENOLCK, "has no locks: use a local disk"),
        (errno.EOPNOTSUPP, "use a local disk"),
        (errno.ENOSYS, "use a local disk"),
        (errno.ENOENT, "look for what removes it"),
        (errno.ENETUNREACH, "look at this machine's network"),
        (errno.EHOSTUNREACH, "its firewalls"),
        (errno.EACCES, "the general advice"),
    ],
)
def test_numbers(number: int, words: str) -> None:
    """Each has the advice that helps; one that the general advice is right for keeps it."""
    assert words in remedy(error(number), "the general advice")
    assert reason(error(number)) == os.strerror(number)


def test_what_is_no_number_of_the_system() -> None:
    """The numbers of TLS and of names are their own: 1 and 2 are not those of the system."""
    for other in (ssl.SSLError(errno.ENOENT, "tls"), socket.gaierror(errno.ENOENT, "name"), ValueError("x")):
        assert remedy(other, "the general advice") == "the general advice"
    assert reason(ValueError("x")) == "ValueError"
    assert reason(OSError("x")) == "OSError"


def certificate(code: int) -> ssl.SSLCertVerificationError:
    found = ssl.SSLCertVerificationError(1, "certificate verify failed")
    found.verify_code, found.verify_message = code, "the server's fault"
    return found


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "not valid yet: set this machine's clock"),
        (10, "has expired: set this machine's clock"),
        (62, "another name: check the address"),
        (64, "another address: check the address"),
        (18, "SSL_CERT_FILE"),
        (20, "SSL_CERT_FILE"),
    ],
)
def test_certificates(code: int, words: str) -> None:
    """What is wrong with it decides what to do."""
    assert words in remedy(certificate(code), "")
    assert reason(certificate(code)) == "its certificate is refused, the server's fault"


def test_a_certificate_that_is_refused_without_a_word() -> None:
    """TLS in Python gives no code: the most likely reason is told."""
    found = ssl.SSLCertVerificationError("no code")
    assert "SSL_CERT_FILE" in remedy(found, "")
    assert reason(found) == "its certificate is refused, and TLS does not say why"


def test_what_a_library_has_wrapped() -> None:
    """The error behind it counts, however it is kept."""
    wrapped = RuntimeError("a library's")
    wrapped.__cause__ = error(errno.EMFILE)
    assert "ulimit -n" in remedy(wrapped, "")
    another = RuntimeError("another's")
    another.__context__ = certificate(20)
    assert is_about_a_certificate(another)
    assert not is_about_a_certificate(wrapped)
