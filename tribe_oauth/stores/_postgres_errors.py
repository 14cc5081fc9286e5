"""What goes wrong with PostgreSQL, as errors of ours: what it is, what to do, and no word of the driver's."""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg import errors

from tribe_oauth.errors import Remedy, StoreError
from tribe_oauth.stores._columns import AlteredError

# What libpq and the server say when a connection cannot be opened: there is no code to be had then.
_NOT_CONNECTED: Final = {
    "password authentication failed": "the database refused user and password: look at those in the DSN",
    "no password supplied": "the database wants a password: put it into the DSN, or into PGPASSWORD",
    "server does not support SSL": (
        "the database has no TLS there, and the DSN wants it: set sslmode=disable, or name the port that has it"
    ),
    "no encryption": "the database wants TLS for this user: set sslmode=require in the DSN, or a stricter one",
    "SSL error": "TLS with the database failed: look at sslmode and sslrootcert in the DSN, and at its certificate",
    "certificate": "TLS with the database failed: look at sslmode and sslrootcert in the DSN, and at its certificate",
    "no pg_hba.conf entry": "the database lets this user in from here by no line of its pg_hba.conf: add one",
    "too many": "the database has no connection left: raise max_connections, or make pool_size smaller",
    "connection slots": "the database has no connection left: raise max_connections, or make pool_size smaller",
    "does not exist": "the database does not know the user or the database that the DSN names: look at both",
    "permission denied for database": "the database does not let its user connect: grant CONNECT",
    "is starting up": "the database is starting: wait",
    "is shutting down": "the database is being stopped: wait, or start it",
    "session is not read-write": "no host in the DSN can be written: a fail-over may be under way",
    "session is read-only": "no host in the DSN can be written: a fail-over may be under way",
    "could not translate host name": "the host in the DSN has no address: look at its name",
    "unsupported frontend protocol": "what answers there speaks another protocol: look at host and port in the DSN",
    "expected authentication request": "what answers there is no PostgreSQL: look at host and port in the DSN",
    "invalid response to SSL": "what answers there is no PostgreSQL: look at host and port in the DSN",
    "conversion between": "the database has an encoding that cannot be read as UTF-8: create it WITH ENCODING 'UTF8'",
}


_GRANT: Final = (
    "the database does not allow its user to do this: grant SELECT, INSERT, UPDATE and DELETE on the tables"
    " tribe_oauth_…, and to the user that creates them, CREATE on the schema"
)
_OTHER_TABLES: Final = (
    "the tables tribe_oauth_… are not as they were created: restore them, or let search_path name another schema"
)
_REFUSED: Final[dict[type[psycopg.Error], str]] = {
    errors.InvalidSchemaName: (
        "the database has no schema for this user: let search_path name one (ALTER ROLE … SET search_path)"
    ),
    errors.InsufficientPrivilege: _GRANT,
    errors.ReadOnlySqlTransaction: (
        "the database can only be read (ReadOnlySqlTransaction): after a fail-over, the next call finds the new"
        " primary when the DSN's name leads there; else look whether default_transaction_read_only is set"
    ),
    errors.QueryCanceled: (
        "the database ended a statement (QueryCanceled): raise statement_timeout for this user (ALTER ROLE … SET"
        " statement_timeout = '10s'), or look who cancels"
    ),
    errors.LockNotAvailable: (
        "the database has locked a row or a table for too long (LockNotAvailable): look for a session that hangs"
    ),
    errors.UndefinedColumn: _OTHER_TABLES,
    errors.DatatypeMismatch: _OTHER_TABLES,
    errors.UndefinedFunction: _OTHER_TABLES,
    errors.InvalidColumnReference: _OTHER_TABLES,
    errors.WrongObjectType: _OTHER_TABLES,
    errors.UntranslatableCharacter: (
        "the database has an encoding without a character that is stored: create it WITH ENCODING 'UTF8'"
    ),
    errors.DiskFull: "the database's disk is full: make room",
    errors.TooManyConnections: "the database has no connection left: raise max_connections, or make pool_size smaller",
}

_OF_CERTIFICATES: Final = re.compile("certificate verify failed|server certificate|root certificate")
"""What libpq says, which has no code for it, where TLS refuses the server's certificate."""


def not_connected(error: psycopg.Error) -> StoreError:
    """Why no connection could be opened, as far as it is known."""
    told = str(error)
    if _OF_CERTIFICATES.search(told):
        return StoreError(
            "no connection to the database: TLS refuses its certificate; name the file of its authority in sslrootcert,"
            " and the name that it is made out to as the host"
        )
    for words, said in _NOT_CONNECTED.items():
        if words in told:
            return StoreError(f"no connection to the database: {said}")
    return StoreError(
        f"no connection to the database ({type(error).__name__}): look whether it runs, whether user, password"
        " and database in the DSN are right, and into its log"
    )


def store_error(error: Exception, timeout: float) -> StoreError:
    """What went wrong in an operation, with the remedy and without any value."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, UnicodeDecodeError | errors.CharacterNotInRepertoire):  # here, or already there
        return AlteredError("the database has text that is none: something else wrote it; restore it from a backup")
    if isinstance(error, TimeoutError):
        return StoreError(f"the database did not answer within {timeout:g} s: look whether it runs")
    if isinstance(error, errors.UndefinedTable):
        return StoreError(
            "the database has no tables for this in the search_path of its user", remedy=Remedy.CREATE_SCHEMA
        )
    for kind, said in _REFUSED.items():
        if isinstance(error, kind):
            return StoreError(said)
    return StoreError(f"the database failed ({type(error).__name__}): look into its log")
