"""
# Handle alerts

Turns alerts into incidents on the page *Adnomaly*: opens or updates them, computes their evidence
and the money at risk, and sends notifications (`ALERT_CHANNELS`). A snoozed incident that becomes
much worse is reopened.

- **Runs** on a message in the topic `alerts`, and every five minutes in case the event is lost.
- **Reads** the topic `alerts` from its offsets, `anomaly_results`, `clickstream_events`. **Writes**
  `incidents`, `decisions` (automatic ones), `notifications`; sends to the channels.
- **Normal** a few seconds. Each alert is applied exactly once; a notification may be sent twice
  after a kill.

**If it fails** nothing is lost: the next run continues from the same offsets. `Unavailable` names
the server or channel that does not answer. `OffsetGap`: alerts expired in the topic before they
were read; check `anomaly_results` for that time, then set `sink_offsets.next_offset` of
`handle_alert` by hand.
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
    def update_incidents(dag_run) -> dict[str, int]:
        b = connect()
        return pipeline.update_incidents(
            b.alerts, b.incidents, b.incident_service, b.evidence, now=dag_run.run_after
        )

    @task
    def notify() -> int:
        return connect().notifier.send()

    update_incidents() >> notify()


handle_alert()
