"""The signature of a webhook's message, by the scheme that Tribe's page most likely means. Imported by nothing else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

from aiohttp import web

from tribe_oauth import Secret
from tribe_oauth._hiding import hiding_init
from tribe_oauth.errors import ConfigurationError

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


@hiding_init
class Signature:
    """Accepts a message whose header has ``base64(HMAC-SHA512(secret, body))``, with one of these secrets.

    `header`: its name, which is not public: send yourself a message, and see in the log ``tribe_oauth.web.webhooks``
    which headers it has. `secrets`: a webhook's, as its page in Tribe shows it; several webhooks may come to one path.
    The body is taken as it came, byte by byte, and compared in constant time. Raises ConfigurationError.
    """

    def __init__(self, header: str, *secrets: str | Secret) -> None:
        if not isinstance(header, str) or not _TOKEN.fullmatch(header):
            raise ConfigurationError("the header of a signature is a name, as in 'X-Signature'")
        if not secrets or not all(isinstance(secret, str | Secret) and secret for secret in secrets):
            raise ConfigurationError("a signature needs the secret of the webhook, or those of several: none is empty")
        self._header = header
        self._secrets = [secret if isinstance(secret, Secret) else Secret(secret) for secret in secrets]

    def __call__(self, request: web.Request, body: bytes) -> bool:
        """Whether the message is signed."""
        given = [_digest(value) for value in request.headers.getall(self._header, [])]
        if len(given) != 1 or given[0] is None:
            return False
        matches = [hmac.compare_digest(given[0], self._expected(secret, body)) for secret in self._secrets]
        return any(matches)  # all of them compared

    @staticmethod
    def _expected(secret: Secret, body: bytes) -> bytes:
        return hmac.digest(secret.reveal().encode(), body, hashlib.sha512)


def _digest(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
