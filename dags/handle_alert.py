"""
# Handle alerts

Turns alerts into incidents that people decide about on the page *Adnomaly*: opens or updates them, works out what they touch and
what money is at risk, and tells whoever wants to be told (`ALERT_CHANNELS`). A snoozed incident that gets much worse speaks again.

- **Runs** when a message comes to the topic `alerts`, and every five minutes, because such a wake-up can be lost.
- **Reads** the topic `alerts` from its own watermark, `anomaly_results`, `clickstream_events`. **Writes** `incidents`, `decisions` (what it
  decides by itself), `notifications`; sends to the channels.
- **Normal** a few seconds. Each alert takes effect once, however often this runs or is killed; a message to a channel may come twice after a kill.

**If it fails** nothing is lost: the next run goes on from the same watermark. `Unavailable` names the server or the channel that does not
answer. `OffsetGap` means that alerts were removed from the topic unread: check `anomaly_results` for the time, then set
`sink_offsets.next_offset` of `handle_alert` by hand.
"""

from datetime import timedelta

from adnomaly_airflow.assets import ALERTS
from adnomaly_airflow.defaults import SWEEP, dag_arguments
from airflow.sdk import AssetOrTimeSchedule, dag, task

from adnomaly.pipelines import handle_alert as pipeline
from adnomaly.wiring import connect


@dag(
    schedule=AssetOrTimeSchedule(timetable=SWEEP, assets=[ALERTS]),
    doc_md=__doc__,
    is_paused_upon_creation=False,
    **dag_arguments("watch", timeout=timedelta(minutes=5)),
)
def handle_alert():
    @task
    def take_up(dag_run) -> dict[str, int]:
        b = connect()
        return pipeline.take_up(
            b.alerts, b.incidents, b.evidence, b.postgres, now=dag_run.run_after
        )

    @task
    def notify() -> int:
        return connect().notifier.send()

    take_up() >> notify()


handle_alert()
