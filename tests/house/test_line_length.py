"""Lines have at most 100 columns.

Excepted in code: a line that fits without its string literals, the inside of a multi-line string
that is no docstring (SQL, templates), and a line with a URL. Prose in docstrings and comments is
not excepted. Excepted in Markdown: tables, code blocks, URLs, images, and generated pages, whose
sources are checked instead.
"""

import ast
import io
import tokenize

from adnomaly.settings import ROOT

MAX_COLUMNS = 100
GENERATED = {"docs/dags.md", "docs/schemas.md"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXEMPT = ("|", "<img", "![")


def test_code_and_its_prose_fit_100_columns(code):
    long = [f"{s.name}:{line}" for s in code for line in too_long(s.text)]
    assert not long, "\n".join(long)


def test_tests_and_their_prose_fit_100_columns(tests):
    long = [f"{s.name}:{line}" for s in tests for line in too_long(s.text)]
    assert not long, "\n".join(long)


def test_pages_fit_100_columns():
    long = []
    for page in PAGES:
        name, fenced = str(page.relative_to(ROOT)), False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            fenced ^= line.startswith("```")
            exempt = fenced or line.startswith(EXEMPT) or "://" in line
            if len(line) > MAX_COLUMNS and not exempt and name not in GENERATED:
                long.append(f"{name}:{number}")
    assert not long, "\n".join(long)


def test_the_rule_itself():
    word = "x" * 99
    assert too_long(f'"""{word}"""\n') == [1]
    assert too_long(f"# {word}\n") == [1]
    assert too_long(f"name = '{word}'\n") == []
    assert too_long(f"name = f'{word}'\n") == []
    assert too_long(f"{word}.y = 'z'\n") == [1]
    assert too_long(f'sql = """\n{word} {word}\n"""\n') == []
    assert too_long(f'def f():\n    """One.\n\n    {word}\n    """\n') == [4]
    assert too_long(f"# https://{word}\n") == []


def too_long(text: str) -> list[int]:
    """Numbers of the lines that break the rule."""
    lines = dict(enumerate(text.splitlines(), 1))
    long = {n for n, line in lines.items() if len(line) > MAX_COLUMNS and "://" not in line}
    if not long:
        return []
    prose = _docstring_lines(text)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        first, last = token.start[0], token.end[0]
        if token.type != tokenize.STRING or first in prose:
            continue
        if first == last and first in lines:
            lines[first] = lines[first].replace(token.string, "", 1)
        else:
            long -= set(range(first, last + 1))
    return sorted(n for n in long if len(lines[n]) > MAX_COLUMNS)


def _docstring_lines(text: str) -> set[int]:
    """Lines of strings that stand alone as a statement: docstrings, also those of constants."""
    return {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
