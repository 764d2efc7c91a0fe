"""Streams, paths and variables are spelled in `streams.py`, `home.py` and `settings.py` alone."""

import ast

from adnomaly.streams import STREAMS

HOME = "include/adnomaly/home.py"
SPELLERS = {HOME, "include/adnomaly/stores/bundles.py", "include/adnomaly/settings.py"}
"""`bundles.py` has `CURRENT`; `settings.py` needs `secrets.env` before there is a home."""
AMBIGUOUS = {
    *("airflow", "features", "flink", "jars", "metrics", "postgres", "serving"),
    "bundles",  # also a folder of a training run
    "logs",  # also a folder of AIRFLOW_HOME
}
"""Names below the home that are also names of programs, tables, or folders of other trees."""
OTHERS = {"CURRENT", "attacks.jsonl", "plan.json"}
READERS = {"include/adnomaly/settings.py": None, "include/stack/servers/base.py": {"PATH"}}
"""Files that may read variables; None is any."""
TABLE = "include/adnomaly/streams.py"
FEW = 2
"""Streams that a literal may name; more are a second table."""
PARENTS = ("include/adnomaly/clients/flink.py", "include/stack/")
"""Code that passes its environment on to a child process."""


def test_paths_below_the_home_are_spelled_in_home_alone(code):
    (home,) = [source for source in code if source.name == HOME]
    distinct = (set(_joined(home.tree).values()) | OTHERS) - AMBIGUOUS
    assert {"drift", "truth", "given-up", "wanted"} <= distinct
    spelled = [
        f"{source.name}:{line} {name!r}"
        for source in code
        if source.name not in SPELLERS
        for (line, _), name in _joined(source.tree).items()
        if name in distinct
    ]
    assert not spelled, "\n".join(spelled)


def test_only_settings_read_the_environment(code):
    """Elsewhere `os.environ` is only passed to child processes."""
    wrong = []
    for source in code:
        read, passed = _environ(source.tree)
        allowed = READERS.get(source.name, set())
        if allowed is not None:
            wrong += [f"{source.name}:{n} {v}" for n, v in read.items() if v not in allowed]
        if allowed is not None and not source.name.startswith(PARENTS):
            wrong += [f"{source.name}:{line} os.environ" for line in passed]
    assert not wrong, "\n".join(wrong)


def test_streams_are_listed_in_their_table_alone(code):
    names = {stream.name for stream in STREAMS}
    lists = []
    for source in code:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
                keys = node.keys if isinstance(node, ast.Dict) else node.elts
                listed = names & {key.value for key in keys if isinstance(key, ast.Constant)}
                if len(listed) > FEW and source.name != TABLE:
                    lists.append(f"{source.name}:{node.lineno} {', '.join(sorted(listed))}")
    assert not lists, "\n".join(lists)


def _joined(tree: ast.AST) -> dict[tuple[int, int], str]:
    """Parts of paths: string literals that are joined with `/`, by line and column."""
    parts = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            right = node.right
            if isinstance(right, ast.Constant) and isinstance(right.value, str):
                for part in right.value.split("/"):
                    parts[right.lineno, right.col_offset + right.value.index(part)] = part
    return parts


def _environ(tree: ast.AST) -> tuple[dict[int, str], list[int]]:
    """Variables read, by line; and lines where the environment is used as a whole."""
    reads: dict[int, str] = {}
    mentions = [n.lineno for n in ast.walk(tree) if _is_environ(n)]
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[key, *_]) if (
                _is_environ(value)
            ):
                reads[node.lineno] = ast.unparse(key).strip("'")
            case ast.Subscript(value=value, slice=key, ctx=ast.Load()) if _is_environ(value):
                reads[node.lineno] = ast.unparse(key).strip("'")
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[key, *_]):
                reads[node.lineno] = ast.unparse(key).strip("'")
    return reads, [line for line in mentions if line not in reads]


def _is_environ(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"
