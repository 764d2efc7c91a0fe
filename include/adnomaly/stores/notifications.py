"""Notifications through the channels of ALERT_CHANNELS.

Apprise sends them: mail, chat, paging, webhooks (https://github.com/caronc/apprise).
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from adnomaly.errors import Unavailable

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

_UNSENT: Final = """
SELECT n.incident_id, n.revision, n.reason, coalesce(i.geo || ' ' || i.platform, i.kind),
    i.summary, i.money_at_risk
FROM notifications n JOIN incidents i USING (incident_id)
WHERE n.sent_at IS NULL ORDER BY n.created_at LIMIT 100
"""
_SENT: Final = """
UPDATE notifications SET sent_at = now() WHERE incident_id = %s AND revision = %s
"""

log = logging.getLogger("notifier")


class Notifier:
    """Sends the queue in `notifications`, at least once each.

    A kill between sending and recording sends one twice.
    """

    def __init__(self, postgres: "Postgres", channels: str, link: Callable[[str], str]) -> None:
        self._postgres, self._channels, self._link = postgres, channels.split(), link

    def send(self) -> int:
        """Send the queue, or only log it without a channel; returns the number of notifications.

        Raises:
            Unavailable: a channel refused. Unsent notifications are retried in the next run.
        """
        with self._postgres.connection() as connection:
            queue = connection.execute(_UNSENT).fetchall()
        for incident_id, revision, reason, who, summary, money in queue:
            self._send(
                f"Adnomaly: {who} ({reason})",
                f"{summary}\nMoney at risk: {money:.2f}\n{self._link(incident_id)}",
            )
            with self._postgres.connection() as connection:
                connection.execute(_SENT, (incident_id, revision))
        return len(queue)

    def _send(self, title: str, body: str) -> None:
        log.warning("%s: %s", title, body.splitlines()[0])
        if not self._channels:
            return
        # The page of the API server and DAG files must not load it.
        import apprise

        channels = apprise.Apprise()
        for number, url in enumerate(self._channels, 1):
            if not channels.add(url):
                raise Unavailable(
                    f"ALERT_CHANNELS: channel {number} is no Apprise URL;"
                    " see https://appriseit.com/services"
                )
        if not channels.notify(title=title, body=body):
            raise Unavailable(
                "ALERT_CHANNELS: a channel did not take the message; the next run retries it"
            )
