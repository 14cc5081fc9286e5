"""Exports: whole entity sets of many organizations, as fast as the API allows.

Needs the extra: ``pip install 'tribe-oauth[sync]'``.
"""

try:
    import msgspec as _msgspec  # noqa: F401
except ImportError:
    raise ImportError("sync needs an extra: pip install 'tribe-oauth[sync]'") from None

from tribe_oauth.sync._events import Event, Outcome
from tribe_oauth.sync._export import export
from tribe_oauth.sync._jsonl import JSONLinesFolder, JSONLinesStream
from tribe_oauth.sync._pace import Pace
from tribe_oauth.sync._sink import Checkpoint, CheckpointError, OutputClosedError, Sink, SinkError

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Event",
    "JSONLinesFolder",
    "JSONLinesStream",
    "Outcome",
    "OutputClosedError",
    "Pace",
    "Sink",
    "SinkError",
    "export",
]
