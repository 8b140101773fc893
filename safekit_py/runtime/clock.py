"""The wall clock, for people to read; decisions take the monotonic clock."""

from datetime import UTC, datetime


def wall() -> float:
    """Seconds since the epoch."""
    return datetime.now(UTC).timestamp()


def readable(seconds: float) -> str:
    """Local time of this server, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]
