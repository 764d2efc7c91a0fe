"""Identity of topics."""

from confluent_kafka import Uuid

from adnomaly.clients.kafka.admin import url_safe


def test_an_id_is_safe_in_an_object_key():
    """As `kafka-topics --describe` prints it.

    The standard alphabet has a slash, which S3 stores may fold or hide.
    """
    assert url_safe(Uuid(-1, -1)) == "_____________________w"
    assert url_safe(Uuid(-(1 << 57), 0))[0] == "_"
    assert url_safe(Uuid(-(1 << 59), 0))[0] == "-"
