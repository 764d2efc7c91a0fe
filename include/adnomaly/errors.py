"""Named errors. Each message names the field, the value and the fix."""


class AdnomalyError(Exception):
    """Base of every error raised on purpose."""


class InvalidSetting(AdnomalyError):
    """A setting is unknown, malformed or missing."""


class StoreFenced(AdnomalyError):
    """Another process holds a newer lease of this partition; this one must stop writing to it."""


class OffsetGap(AdnomalyError):
    """Stored and available offsets do not meet: events would be skipped. A person must decide."""


class LakeConflict(AdnomalyError):
    """An immutable object of the lake already exists with different content."""


class BundleRejected(AdnomalyError):
    """A model bundle is incomplete, corrupted or foreign, and is not loaded."""


class NotEnoughHistory(AdnomalyError):
    """Too little data for training or for thresholds."""


class JobFailed(AdnomalyError):
    """A Flink job or a Ray Serve application failed; the message carries the cause."""


class BadInput(AdnomalyError):
    """A user's file cannot be used; the message names the column, the row and the fix."""


class Unavailable(AdnomalyError):
    """A server cannot be reached. Retrying is safe."""


class WindowsDiffer(AdnomalyError):
    """Stream and batch disagree about windows that both have; the message lists them."""


class NothingCompared(AdnomalyError):
    """A day has no window that stream and batch could agree about; the message says why."""


class NewerVersion(AdnomalyError):
    """Data were written by a newer version of Adnomaly."""


class StreamsUnhealthy(AdnomalyError):
    """A stream is down or lags behind; the message has one line for each problem."""


class InvalidDecision(AdnomalyError):
    """A decision about an incident is not allowed; the message names the field and the fix."""


class DecisionOutdated(AdnomalyError):
    """The incident has changed since it was read: somebody else decided about it."""
