"""What a URL says about Redis: one server, those of a cluster, or the Sentinels that know the master."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import attrs

Address = tuple[str, int]
Kind = Literal["one", "cluster", "sentinel"]

_PORTS: Final[dict[Kind, int]] = {"one": 6379, "cluster": 6379, "sentinel": 26379}
_SCHEMES: Final[dict[str, tuple[str, Kind]]] = {
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
}


@attrs.frozen(kw_only=True, repr=False)
class Place:
    """A URL's parts. `timeout`: seconds for one operation."""

    url: str
    """As it was given."""
    timeout: float
    kind: Kind = "one"
    seeds: tuple[Address, ...] = ()
    """The servers, or the Sentinels, that it names."""
    master: str = ""
    """The name by which Sentinel knows it."""
    scheme: str = ""
    credentials: str = ""
    """Of the servers, with the ``@``."""
    sentinel_credentials: str = ""
    query: str = ""

    def url_at(self, address: Address) -> str:
        """That of a server, as redis-py takes it."""
        return f"{self.scheme}://{self.credentials}{_netloc(address)}?{self.query}"

    def sentinel_url_at(self, address: Address) -> str:
        """That of a Sentinel, which has no databases."""
        options = [option for option in parse_qsl(self.query) if option[0] != "db"]
        return f"{self.scheme}://{self.sentinel_credentials}{_netloc(address)}?{urlencode(options)}"


def read_url(url: str, timeout: float) -> Place:
    """Read it. Raises ValueError."""
    prefix, _, _ = url.partition("://")
    if prefix not in _SCHEMES:
        return Place(url=url, timeout=timeout)
    scheme, kind = _SCHEMES[prefix]
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query))
    master = parts.path.removeprefix("/")
    if bool(master) is not (kind == "sentinel") or "/" in master:
        raise ValueError
    of_sentinel = (options.pop("sentinel_username", ""), options.pop("sentinel_password", ""))
    return Place(
        url=url,
        timeout=timeout,
        kind=kind,
        seeds=tuple(_address(host, _PORTS[kind]) for host in hosts.split(",")),
        master=master,
        scheme=scheme,
        credentials=credentials + at,
        sentinel_credentials=":".join(quote(part, safe="") for part in of_sentinel) + "@" if any(of_sentinel) else "",
        query=urlencode(options),
    )


def _address(host: str, port: int) -> Address:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError
    return parts.hostname, parts.port or port


def _netloc(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
