"""The error answers of the authorization server, in its own sentences (Ory Hydra's, in all versions the same)."""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen


@frozen
class Refusal:
    """An error answer (RFC 6749 §5.2). `description` is the server's standard sentence for the error, without its dot.

    `hint`: what is wrong in this case; the versions differ in where they put it, and in its quotation marks.
    """

    status: int
    error: str
    description: str
    hint: str = ""


class RefusedError(Exception):
    """The authorization server refuses a request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


INVALID_REQUEST: Final = Refusal(
    400,
    "invalid_request",
    "The request is missing a required parameter, includes an invalid parameter value, includes a parameter"
    " more than once, or is otherwise malformed",
    "Make sure that the various parameters are correct, be aware of case sensitivity and trim your parameters."
    " Make sure that the client you are using has exactly whitelisted the redirect_uri you specified.",
)
EMPTY: Final = evolve(INVALID_REQUEST, hint="The POST body can not be empty.")
NO_GRANT_TYPE: Final = evolve(INVALID_REQUEST, hint="Request parameter 'grant_type' is missing")
NO_CREDENTIALS: Final = evolve(
    INVALID_REQUEST,
    hint="Client credentials missing or malformed in both HTTP Authorization header and HTTP POST body.",
)
CHALLENGE_METHOD: Final = evolve(
    INVALID_REQUEST, hint="Clients must use code_challenge_method=S256, plain is not allowed."
)
CONCURRENT: Final = evolve(
    INVALID_REQUEST,
    hint="Failed to refresh token because of multiple concurrent requests using the same token which is not allowed.",
)

INVALID_GRANT: Final = Refusal(
    400,
    "invalid_grant",
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token"
    " is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or"
    " was issued to another client",
)
ALREADY_USED: Final = evolve(INVALID_GRANT, hint="The refresh token was already used.")
MALFORMED: Final = evolve(INVALID_GRANT, hint="The refresh token is malformed or not valid.")
EXPIRED: Final = evolve(INVALID_GRANT, hint="The refresh token expired.")
OTHER_CLIENT: Final = evolve(
    INVALID_GRANT,
    hint="The OAuth 2.0 Client ID from this request does not match the ID during the initial token issuance.",
)
CODE_OF_OTHER_CLIENT: Final = evolve(
    INVALID_GRANT,
    hint="The OAuth 2.0 Client ID from this request does not match the one from the authorize request.",
)
CODE_USED: Final = evolve(INVALID_GRANT, hint="The authorization code has already been used.")
REDIRECT_URI: Final = evolve(
    INVALID_GRANT, hint='The "redirect_uri" from this request does not match the one from the authorize request.'
)
WRONG_VERIFIER: Final = evolve(INVALID_GRANT, hint="The PKCE code challenge did not match the code verifier.")
SHORT_VERIFIER: Final = evolve(INVALID_GRANT, hint="The PKCE code verifier must be at least 43 characters.")
NO_CHALLENGE: Final = evolve(INVALID_GRANT, hint="Unable to find initial PKCE data tied to this request")

TOKEN_INACTIVE: Final = Refusal(
    401,
    "token_inactive",
    "Token is inactive because it is malformed, expired or otherwise invalid",
    "Token validation failed.",
)
INVALID_CLIENT: Final = Refusal(
    401,
    "invalid_client",
    "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported"
    " authentication method)",
)
WRONG_METHOD: Final = evolve(
    INVALID_CLIENT,
    hint='The OAuth 2.0 Client supports client authentication method "client_secret_post", but method'
    ' "client_secret_basic" was requested. You must configure the OAuth 2.0 client\'s "token_endpoint_auth_method"'
    ' value to accept "client_secret_basic".',
)
INVALID_SCOPE: Final = Refusal(400, "invalid_scope", "The requested scope is invalid, unknown, or malformed")


def scope_refused(scope: str) -> Refusal:
    """A scope that the Application does not have."""
    return evolve(INVALID_SCOPE, hint=f"The OAuth 2.0 Client is not allowed to request scope '{scope}'.")


UNAUTHORIZED_CLIENT: Final = Refusal(
    400, "unauthorized_client", "The client is not authorized to request a token using this method"
)
SERVER_ERROR: Final = Refusal(
    500,
    "server_error",
    "The authorization server encountered an unexpected condition that prevented it from fulfilling the request",
)

# Told at the callback (RFC 6749 §4.1.2.1), where a status has no place.
ACCESS_DENIED: Final = Refusal(403, "access_denied", "The resource owner or authorization server denied the request")
INVALID_STATE: Final = Refusal(
    400,
    "invalid_state",
    "The state is missing or does not have enough characters and is therefore considered too weak",
    "Request parameter 'state' must be at least be 8 characters long to ensure sufficient entropy.",
)
RESPONSE_TYPE: Final = Refusal(
    400,
    "unsupported_response_type",
    "The authorization server does not support obtaining a token using this method",
)
