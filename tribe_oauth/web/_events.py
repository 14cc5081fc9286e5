"""What a webhook's message says, as far as its form is public. Imported by `_webhooks` and `_waiting`."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from enum import Enum
from typing import Any, Final

import attrs

_KIND: Final = re.compile(r"(?:.*[.$/#:])?(?:Entity|Relationship)(Creation|Update|Deletion)Mutation")


class Change(Enum):
    """What happened."""

    CREATED = "Creation"
    UPDATED = "Update"
    DELETED = "Deletion"


@attrs.frozen(kw_only=True)
class WebhookEvent:
    """A hint that something may have changed. Read that: messages come twice, late, in another order, or not at all.

    `change`: None where the message does not say it in a form that is known. `entity_id`, `relationship_id`: the one or
    the other, of what changed; a relationship is most likely a link between two entities, and no entity of the set
    ``Relationship``. `payload`: all that the message has. `path`: the variable parts of the path that it came to.
    """

    webhook_id: str | None
    change: Change | None
    entity_id: str | None
    relationship_id: str | None
    path: Mapping[str, str] = attrs.field(factory=dict)
    payload: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)

    @property
    def subject(self) -> Hashable:
        """What it is about: events of the same are handled one after the other."""
        return self.entity_id, self.relationship_id, tuple(self.path.items())

    @property
    def same(self) -> Hashable:
        """Equal for messages that say the same."""
        about = self.entity_id or self.relationship_id
        return self.webhook_id, self.change, self.subject, None if about else json.dumps(self.payload, sort_keys=True)


def read_event(body: bytes, path: Mapping[str, str]) -> WebhookEvent | None:
    """The event in the body of a message that is genuine; None where it is no JSON object."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    payload = message.get("payload")
    change, fields = _change(payload if isinstance(payload, dict) else {})
    return WebhookEvent(
        webhook_id=_text(message.get("webhookId")),
        change=change,
        entity_id=_text(fields.get("entityId")),
        relationship_id=_text(fields.get("relationshipId")),
        path=dict(path),
        payload=payload if isinstance(payload, dict) else message,
    )


def _change(payload: dict[str, Any]) -> tuple[Change | None, dict[str, Any]]:
    """The kind of the payload and its fields. Where the kind stands is not public: as a value, or around the fields."""
    for name, value in payload.items():
        if isinstance(value, dict) and (kind := _KIND.fullmatch(name)):
            return Change(kind[1]), value
        if isinstance(value, str) and (kind := _KIND.fullmatch(value)):
            return Change(kind[1]), payload
    return None, payload


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
