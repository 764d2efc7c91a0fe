"""Kafka administration: create topics, identify them."""

import time
from collections.abc import Iterable
from threading import Event
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    NewTopic,
)

from adnomaly.errors import Unavailable
from adnomaly.retry import retry, until
from adnomaly.topics import ALL_TOPICS, Topic

CALL_SECONDS: Final = 10.0


def create_topics(bootstrap: str, topics: Iterable[Topic] = ALL_TOPICS) -> list[str]:
    """Create missing topics and wait until they are visible; returns their names. Idempotent.

    Raises:
        Unavailable: the broker does not answer, or a created topic never becomes visible.
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
    # The controller has created them; the broker that is asked next may lag behind for a moment.
    deadline = time.monotonic() + CALL_SECONDS
    for name in created:
        while not _is_visible(admin, name):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"topic {name}: created, but not visible after {CALL_SECONDS:.0f} s; try again"
                )
            time.sleep(0.05)
    return created


def _is_visible(admin: AdminClient, topic: str) -> bool:
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
    """Kafka's id of a topic; a recreated topic of the same name has another one.

    Raises:
        Unavailable: the broker does not answer, or there is no such topic.
    """
    # The client stays referenced until the answer is read: an answer to a deleted client is an
    # error.
    admin = _admin(bootstrap)
    try:
        description = admin.describe_topics(TopicCollection([topic]), request_timeout=CALL_SECONDS)[
            topic
        ].result()
    except KafkaException as error:
        raise Unavailable(
            f"topic {topic}: {error.args[0].str()}; `make create-topic` creates missing topics"
        ) from error
    return url_safe(description.topic_id)


def url_safe(uuid: Uuid) -> str:
    """An id as Kafka's tools print it: base64 with the URL-safe alphabet (RFC 4648, section 5).

    The client prints plain base64, whose "/" would make an empty folder of an object key.
    """
    return str(uuid).replace("+", "-").replace("/", "_")


def await_topic_id(bootstrap: str, topic: str, stop: Event) -> str:
    """Kafka's id of a topic, retried while the broker is unavailable or the topic is missing.

    Raises:
        Stopped: `stop` was set first.
    """
    return retry(lambda: topic_id(bootstrap, topic), wait=until(stop), max_delay_s=2.0)


def _admin(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
