"""Commands for the store itself: schema, rekey, keygen. They need no Application."""

from __future__ import annotations

from tribe_oauth._manager import settings as environment
from tribe_oauth.cli._managers import check_store
from tribe_oauth.cli._words import console, write_line
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.stores import Rekeyer, SchemaStore


async def schema() -> None:
    """Create the tables in the database that TRIBE_STORE names, where they are missing. Any other store needs none."""
    store = environment.plain_store(durable=True)
    if not isinstance(store, SchemaStore):
        console().print(f"{type(store).__name__} needs none: it makes what it needs with the first connection")
        return
    try:
        await store.create_schema()
    finally:
        await store.close()
    console().print("the tables are there")


async def rekey() -> None:
    """Encrypt the store anew under the newest key of TRIBE_STORE_KEYS. May be stopped, and run again."""
    store = environment.store(durable=True)
    if not isinstance(store, Rekeyer):
        raise ConfigurationError(
            "TRIBE_STORE_KEYS is not set, so that nothing is encrypted: set it to the new key and the old ones,"
            " the newest first; 'tribe-oauth keygen' makes one"
        )
    check_store(empty=False)
    try:
        changed = await store.rekey()
    finally:
        await store.close()
    console().print(f"{changed} records are under the newest key now; the older keys can go")


async def keygen() -> None:
    """Print a new key for TRIBE_STORE_KEYS, and nothing else."""
    try:
        from tribe_oauth.stores.encrypted import generate_key
    except ImportError as error:
        raise ConfigurationError(str(error)) from None
    write_line(generate_key().reveal())
