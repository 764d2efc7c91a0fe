"""The two drawings of docs/architecture.md as Mermaid, derived from `STREAMS` and from the DAGs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from adnomaly.settings import ROOT
from adnomaly.streams import STREAMS, Stream
from adnomaly.topics import ALL_TOPICS
from stack.docs import dag_graph

PAGE: Final = "docs/architecture.md"
LAKE: Final = "S3 lake"
BUNDLE: Final = "bundles/CURRENT"
DETECTOR: Final = "adnomaly_detector"
"""The asset whose producers and consumers make up the life of a model."""

Edge = tuple[str, str]
Dags = Mapping[str, Mapping[str, Any]]


def path_of_a_click(streams: Sequence[Stream] = STREAMS) -> str:
    """Streams as boxes, topics rounded, stores as cylinders; an arrow is a read or a write.

    A stream that neither reads a topic nor writes one, such as the scoring API, is left out.
    """
    boxes = {s.name: _box(s.name, s.title) for s in streams}
    topics = {topic.name: _topic(topic.name) for topic in ALL_TOPICS}
    edges = [edge for stream in streams for edge in _reads_and_writes(stream)]
    nodes = dict.fromkeys(node for edge in edges for node in edge)
    labels = {node: boxes.get(node) or topics.get(node) or _store(node) for node in nodes}
    return _flowchart("LR", labels, edges)


def life_of_a_model(dags: Dags | None = None, streams: Sequence[Stream] = STREAMS) -> str:
    """DAGs with their tasks, the assets that trigger them, and the streams that score.

    Of the DAGs, those that lead to or follow the asset of the detector. Airflow knows nothing of
    the lake and of `bundles/CURRENT`: their arrows are added here.
    """
    dags = dag_graph.read() if dags is None else dags
    edges = [(name, asset) for name, dag in dags.items() for asset in dag["updates"]]
    edges += [(asset, name) for name, dag in dags.items() for asset in dag["woken_by"]]
    edges = _connected(edges, DETECTOR)
    nodes = dict.fromkeys(node for edge in edges for node in edge)
    labels = {
        node: _box(node, ", ".join(dags[node]["tasks"])) if node in dags else _topic(_asset(node))
        for node in nodes
    }
    labels |= {LAKE: _store(LAKE), BUNDLE: _store(BUNDLE)}
    labels |= {s.name: _box(s.name, s.title) for s in streams if s.role == "scoring"}
    scoring = [(BUNDLE, s.name) for s in streams if s.role == "scoring"]
    ends = [(LAKE, "backfill_features"), ("deploy_detector", BUNDLE)]
    return _flowchart("TD", labels, [*edges, *ends, *scoring])


def architecture() -> str:
    """docs/architecture.md with both drawings up to date."""
    text = (ROOT / PAGE).read_text()
    for mark, drawing in (
        ("path of a click", path_of_a_click()),
        ("life of a model", life_of_a_model()),
    ):
        text = _replace(text, mark, drawing)
    return text


def _reads_and_writes(stream: Stream) -> list[Edge]:
    reads = [(stream.source.name, stream.name)] if stream.source else []
    return reads + [(stream.name, target) for target in stream.writes]


def _replace(text: str, mark: str, block: str) -> str:
    pattern = rf"(?<=<!-- {mark} -->\n).*?(?=<!-- /{mark} -->)"
    replaced, count = re.subn(pattern, lambda _: f"{block}\n", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{PAGE}: needs one block <!-- {mark} --> ... <!-- /{mark} -->")
    return replaced


def _connected(edges: Sequence[Edge], start: str) -> list[Edge]:
    """The edges from which `start` can be reached, and those that can be reached from it."""
    upstream, downstream = {start}, {start}
    for _ in edges:
        upstream |= {a for a, b in edges if b in upstream}
        downstream |= {b for a, b in edges if a in downstream}
    return [(a, b) for a, b in edges if b in upstream or a in downstream]


def _flowchart(direction: str, labels: Mapping[str, str], edges: Iterable[Edge]) -> str:
    """Mermaid text; node ids are the names with every other character replaced."""
    lines = [f"    {_id(name)}{label}" for name, label in labels.items()]
    lines += [f"    {_id(a)} --> {_id(b)}" for a, b in edges]
    return "\n".join(["```mermaid", f"flowchart {direction}", *lines, "```"])


def _id(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _asset(name: str) -> str:
    return name.removeprefix("adnomaly_").replace("_", " ")


def _box(name: str, detail: str) -> str:
    return f'["{name}<br/>{detail}"]'


def _topic(name: str) -> str:
    return f'(["{name}"])'


def _store(name: str) -> str:
    return f'[("{name}")]'
