"""Named errors. Each message names the field, the value and the fix."""


class AdnomalyError(Exception):
    """Base of every error we raise on purpose."""


class InvalidSetting(AdnomalyError):
    """A setting is unknown, malformed or missing."""


class StoreFenced(AdnomalyError):
    """Another process has claimed this partition since: this one must stop writing to it."""


class OffsetGap(AdnomalyError):
    """Stored and available offsets do not meet: events would be skipped. A person must decide."""


class LakeConflict(AdnomalyError):
    """An immutable object of the lake exists already with other content."""


class BundleRejected(AdnomalyError):
    """A model bundle is incomplete, corrupted or foreign, and is not loaded."""


class NotEnoughHistory(AdnomalyError):
    """There is too little data to train or to calibrate on."""


class JobFailed(AdnomalyError):
    """A Flink job or a served application ended in failure; the message carries its cause."""


class BadInput(AdnomalyError):
    """A file that a person gave cannot be used; the message names the column, the row and the fix."""


class Unavailable(AdnomalyError):
    """A server cannot be reached now. Retrying is safe."""


class WindowsDiffer(AdnomalyError):
    """Stream and batch disagree about windows both should know; the message lists them."""


class StreamsUnhealthy(AdnomalyError):
    """Something that is meant to run does not, or falls behind; the message has one line for each."""


class InvalidDecision(AdnomalyError):
    """A decision about an incident that cannot be taken; the message names the field and the fix."""


class DecisionOutdated(AdnomalyError):
    """Somebody else has decided about the incident since it was looked at."""
