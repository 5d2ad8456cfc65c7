"""The package's own text: docstrings begin in an allowed form, and dense rooms explain themselves.

A docstring is the first string of a module, a class or a function, or a string that follows the
attribute it explains. Functions tell in the imperative what they do; everything else is a thing,
and is named.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import bili_account_async

PACKAGE = Path(bili_account_async.__file__).parent
# Rooms that are being rewritten at this time, by how their paths begin: not judged. To be emptied.
REWRITTEN: tuple[str, ...] = ()
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
JUDGED = [name for name in FILES if not name.startswith(REWRITTEN)]
DENSE = re.compile(
    r"(call|wire|intake|credential|snapshot|_deadlines|retry)\.py|(transport|structuring)/.*"
)
WORDS_PER_STATEMENT = 3.5

QUESTION = re.compile(
    r"(What|Who|Whom|Whose|Whether|Which|How|Where|When|Why|This function|This method)\b"
)
VERB = re.compile(
    r"(Add|Answer|Ask|Book|Bring|Build|Call|Cancel|Change|Check|Close|Compute|Convert|Decorate|Do|Drop|"
    r"End|Fail|Fill|Find|Forget|Free|Give|Grant|Hand|Hold|Invent|Keep|Kill|Leave|Let|List|Live|Load|"
    r"Lock|Log|Make|Merge|Move|Note|Open|Parse|Pause|Poll|Print|Publish|Put|Queue|Raise|Read|"
    r"Refuse|Register|Release|Remove|Replace|Report|Reset|Restore|Resume|Return|Run|Save|Say|"
    r"Schedule|Send|Serve|Set|Show|Skip|Slow|Sort|Spend|Start|Stop|Store|Take|Tell|Tidy|Turn|"
    r"Update|Wait|Wake|Write|Yield)\b"
)
"""The verbs that a function's docstring may begin with; a new one is to be added here."""


class Docstring(NamedTuple):
    """A docstring, and the thing that it explains."""

    kind: str
    """`module`, `class`, `function` or `attribute`; a property is an attribute."""
    name: str
    line: int
    text: str


def docstrings(tree: ast.AST, kind: str = "module", name: str = "") -> Iterator[Docstring]:
    """Yield all docstrings below a module, a class or a function."""
    for field in ("body", "orelse", "handlers", "finalbody"):
        for place, node in enumerate(getattr(tree, field, [])):
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    first = field == "body" and place == 0 and kind != "block"
                    yield Docstring(kind if first else "attribute", name, node.lineno, text)
                case ast.ClassDef():
                    yield from docstrings(node, "class", node.name)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    yield from docstrings(node, function_kind(node), node.name)
                case ast.stmt() | ast.ExceptHandler():
                    yield from docstrings(node, "block", name)


def function_kind(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return `attribute` for a property, `function` for any other function."""
    decorators = map(ast.unparse, node.decorator_list)
    is_property = any(re.search(r"\bproperty$|\.setter$", text) for text in decorators)
    return "attribute" if is_property else "function"


def faults(docstring: Docstring) -> list[str]:
    """Return what is wrong with a docstring, in words for an assertion."""
    summary, *rest = docstring.text.split("\n")
    found = []
    if QUESTION.match(docstring.text):
        found.append("begins with a question")
    if docstring.kind == "function" and not VERB.match(summary):
        found.append("begins with no verb of the list")
    if not summary.endswith((".", "?", "…", ":")) or (rest and rest[0].strip()):
        found.append("has no first sentence that fits on its line")
    if len(rest) == 1:
        found.append("has one line, and its closing quotes on another")
    return found


def all_faults(source: str) -> list[str]:
    """Return the faults of all docstrings in a module's source, each with its line."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["1: the module has no docstring"]
    for docstring in docstrings(tree):
        for fault in faults(docstring):
            found.append(f"{docstring.line}: {docstring.kind} {docstring.name}: {fault}")
    return found


def words_per_statement(source: str) -> float:
    """Return the words of docstrings and comments for each statement of a module.

    A comment for a linter counts from its reason on: `# noqa: X123 - the reason`.
    """
    tree = ast.parse(source)
    words = sum(len(docstring.text.split()) for docstring in docstrings(tree))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            reason = text.partition(" - ")[2] if re.match("noqa|type:|ruff:", text) else text
            words += len(re.findall(r"\w\S*", reason))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return words / (len(statements) - len(list(docstrings(tree))))


@pytest.mark.parametrize("name", JUDGED)
def test_every_docstring_begins_as_the_house_wants_it(name: str) -> None:
    assert all_faults(FILES[name].read_text("utf-8")) == []


@pytest.mark.parametrize("name", [name for name in JUDGED if DENSE.fullmatch(name)])
def test_a_dense_room_explains_itself(name: str) -> None:
    assert words_per_statement(FILES[name].read_text("utf-8")) >= WORDS_PER_STATEMENT


@pytest.mark.parametrize("name", JUDGED)
def test_a_comment_stands_above_its_line_and_not_behind_a_closing_bracket(name: str) -> None:
    lines = FILES[name].read_text("utf-8").splitlines()
    assert [line for line in lines if re.match(r"\s*[)\]}]+[:,]?\s+#(?! noqa)", line)] == []


GOOD = '''"""A module of one thing."""

LIMIT = 3
"""Seconds that it lasts."""


class Thing:
    """A thing."""

    @property
    def size(self) -> int:
        """Its size in bytes."""

    async def weigh(self) -> float:
        """Return its weight.

        In kilograms.
        """
        try:
            grams = 5
            """Grams."""
        finally:
            pass
        return grams
'''


def test_a_module_in_the_style_of_the_house_has_no_faults() -> None:
    assert all_faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"""A module of one thing."""', "", "the module has no docstring"),
        ("A module of", "What the module has:", "begins with a question"),
        ("Seconds that it lasts.", "How long it lasts.", "begins with a question"),
        ('"""A thing."""', '"""Whose thing it is."""', "begins with a question"),
        ("Its size in bytes.", "Whether it is big.", "begins with a question"),
        ('"""Grams."""', '"""Which grams."""', "begins with a question"),
        ("Return its weight", "Its weight", "begins with no verb"),
        ("Return its weight", "Returns its weight", "begins with no verb"),
        ("Return its weight", "This function returns its weight", "begins with a question"),
        ("Return its weight.\n", "Return the weight of\n        the thing.\n", "no first sentence"),
        ("Return its weight.\n", "Return its weight\n", "no first sentence"),
        ('"""A thing."""', '"""A thing.\n    """', "closing quotes on another"),
    ],
)
def test_a_docstring_in_another_form_is_a_fault(old: str, new: str, fault: str) -> None:
    assert GOOD.count(old) == 1
    assert any(fault in found for found in all_faults(GOOD.replace(old, new)))


def test_words_are_counted_in_docstrings_and_comments_and_not_in_strings_or_linters_marks() -> None:
    source = '"""Two words."""\nname = "not a word"  # three words here\npass  # noqa: X1 - why\n'
    assert words_per_statement(source) == 3
