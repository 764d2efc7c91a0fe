"""Kafka administration: topics that exist, and who they are."""

import logging
import threading
import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient, NewTopic

from adnomaly.errors import Unavailable
from adnomaly.topics import ALL_TOPICS, Topic

CALL_SECONDS = 10.0
RETRY_SECONDS = 1.0

log = logging.getLogger("kafka")


def create_topics(bootstrap: str, topics: Iterable[Topic] = ALL_TOPICS) -> list[str]:
    """Create the topics that are missing, and wait until the broker knows them; returns their names. Idempotent.

    Raises:
        Unavailable: the broker does not answer, or does not come to know a topic.
    """
    wanted = [
        NewTopic(
            t.name, t.partitions, 1, config={"retention.ms": str(t.retention_hours * 3_600_000)}
        )
        for t in topics
    ]
    created, admin = [], _admin(bootstrap)
    for name, future in admin.create_topics(wanted, request_timeout=CALL_SECONDS).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise Unavailable(f"topic {name}: {error.args[0].str()}") from error
    # The controller has said yes; the broker that is asked next may take a moment to hear of it.
    deadline = time.monotonic() + CALL_SECONDS
    for name in created:
        while not _is_known(admin, name):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"topic {name}: was created, but the broker does not know it after {CALL_SECONDS:.0f} s; try again"
                )
            time.sleep(0.05)
    return created


def _is_known(admin: AdminClient, topic: str) -> bool:
    try:
        admin.describe_topics(TopicCollection([topic]), request_timeout=CALL_SECONDS)[
            topic
        ].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return False
        raise Unavailable(f"topic {topic}: {error.args[0].str()}") from error
    return True


def topic_id(bootstrap: str, topic: str) -> str:
    """Kafka's own id of a topic: a topic of the same name that is made anew has another one.

    Spelled as Kafka's tools spell it, in the alphabet that is safe in URLs and in object keys (RFC 4648, section 5).

    Raises:
        Unavailable: the broker does not answer, or there is no such topic.
    """
    # Kept in a name: an answer to a client that is gone is an error.
    admin = _admin(bootstrap)
    try:
        description = admin.describe_topics(TopicCollection([topic]), request_timeout=CALL_SECONDS)[
            topic
        ].result()
    except KafkaException as error:
        raise Unavailable(
            f"topic {topic}: {error.args[0].str()}; `make create-topic` creates what is missing"
        ) from error
    return url_safe(description.topic_id)


def url_safe(uuid: Uuid) -> str:
    """The client spells ids in plain base64, whose "/" would make an empty folder of an object key."""
    return str(uuid).replace("+", "-").replace("/", "_")


def await_topic_id(bootstrap: str, topic: str, stop: threading.Event) -> str:
    """The same, waiting while the broker is away or the topic is not there yet.

    Raises:
        Unavailable: we must stop before it is.
    """
    while True:
        try:
            return topic_id(bootstrap, topic)
        except Unavailable as error:
            if stop.wait(RETRY_SECONDS):
                raise
            log.warning("waiting: %s", error)


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
