"""House rules for Python and C that ruff has no rule for: sizes, docstrings that are sentences, exceptions with reasons."""

from __future__ import annotations

import ast
import gc
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.tree import ROOT, tracked

FILE_LINES = 500
TEST_LINES = 600
"""A page of tests is a list of cases, read in pieces."""
FUNCTION_LINES = 60

LONG_FILES: dict[str, str] = {}
"""Path to the reason why a file may be longer."""
LONG_FUNCTIONS: dict[str, str] = {}
"""``path:function`` to the reason why a function may be longer."""
BROAD_EXCEPTS = {
    "src/fairlead/agent/server.py:_guard": "no request may end the agent; what nobody foresaw is logged and answered",
    "src/fairlead/docker/plugin.py:answer": "the same, for Docker's requests",
    "src/fairlead/kit/tasks.py:forever": "a part of the agent that meets what nobody foresaw begins again, all else goes on",
    "src/fairlead/kit/turns.py:_do": "who waits for the answer is told, as by the standard library's executors",
    "src/fairlead/cli/main.py:_here": "no user is shown a traceback unless they ask for it",
    "src/fairlead/cli/container/detached.py:_become_monitor": "its parent waits to be told, whatever it is",
}
"""``path:function`` to the reason why it may catch everything without raising it again."""

PYTHON = tracked("*.py")
PACKAGE = tracked("src/*.py")
TESTS = tracked("tests/*/test_*.py")
SOURCES = [*PYTHON, *tracked("*.c"), *tracked("*.h")]

PRAGMA = re.compile(r"#\s*(?P<what>(noqa|type: ignore)[^#]*?)\s*(#\s*(?P<why>\w.*))?$")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef | ast.Module

_SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@cache
def parsed(source: str) -> ast.Module:
    """The same tree for all rules; to look through all trees for garbage time and again would take longer than the rules."""
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.freeze()
        gc.enable()


@cache
def statements(source: str) -> list[ast.AST]:
    """The module and everything in it that is no part of an expression, the handlers of exceptions among it."""
    found: list[ast.AST] = [parsed(source)]
    for node in found:
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            found += getattr(node, field, ())
    return found


def code_lines(source: str) -> set[int]:
    """The lines that hold code: no comments, no blank lines, no docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in statements(source):
        if isinstance(node, Documented) and ast.get_docstring(node) is not None:
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def long_functions(source: str) -> dict[str, int]:
    """Functions over the limit with the lines of code in their bodies; a signature may be a table of its own."""
    bodies = {
        node.name: range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        for node in statements(source)
        if isinstance(node, Function)
    }
    if not (tall := {name: body for name, body in bodies.items() if len(body) > FUNCTION_LINES}):
        return {}
    lines = code_lines(source)
    sizes = {name: len(lines & set(body)) for name, body in tall.items()}
    return {name: size for name, size in sizes.items() if size > FUNCTION_LINES}


def broad_excepts(source: str) -> Iterator[str]:
    """Functions with a handler that swallows everything, and ``<module>`` for one outside any."""
    functions = [node for node in statements(source) if isinstance(node, Function)]
    for handler in (node for node in statements(source) if isinstance(node, ast.ExceptHandler)):
        caught = handler.type
        named = {getattr(one, "id", "") for one in (caught.elts if isinstance(caught, ast.Tuple) else [caught])}
        if (caught is None or named & {"Exception", "BaseException"}) and not isinstance(handler.body[-1], ast.Raise):
            around = [one for one in functions if one.lineno <= handler.lineno <= (one.end_lineno or 0)]
            yield max(around, key=lambda one: one.lineno).name if around else "<module>"


def name(path: Path, inside: str = "") -> str:
    """A file, or a function in it, as the lists above name it."""
    return f"{path.relative_to(ROOT)}:{inside}" if inside else str(path.relative_to(ROOT))


def comments(source: str) -> list[str]:
    """Every comment."""
    if "#" not in source:
        return []
    return [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT]


def test_a_file_is_short_enough_to_read() -> None:
    lines = {path: path.read_text().count("\n") for path in SOURCES if name(path) not in LONG_FILES}
    limits = {path: TEST_LINES if path in TESTS else FILE_LINES for path in lines}
    assert {name(path): count for path, count in lines.items() if count > limits[path]} == {}


def test_a_function_fits_on_a_page() -> None:
    sizes = {name(path, one): size for path in PYTHON for one, size in long_functions(path.read_text()).items()}
    assert {one: size for one, size in sizes.items() if one not in LONG_FUNCTIONS} == {}


def test_nothing_is_caught_that_is_not_known() -> None:
    """Catch what can happen, or raise again."""
    swallowing = {name(path, one) for path in PYTHON for one in broad_excepts(path.read_text())}
    assert swallowing - set(BROAD_EXCEPTS) == set()


def test_a_module_says_what_it_is() -> None:
    docstrings = {name(path): ast.get_docstring(parsed(path.read_text())) or "" for path in PYTHON if path not in TESTS}
    assert [path for path, text in docstrings.items() if not re.search(r"[.:?](\s|$)", text)] == []


def test_every_folder_is_a_package_with_a_purpose() -> None:
    assert sorted({str(path.parent) for path in PACKAGE if path.with_name("__init__.py") not in PACKAGE}) == []


def test_what_is_public_has_a_docstring() -> None:
    public = [
        (path, node)
        for path in PACKAGE
        for node in parsed(path.read_text()).body
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [name(path, node.name) for path, node in public if ast.get_docstring(node) is None] == []


def unreasoned(source: str) -> set[str]:
    """Pragmas without a reason, unless the same one has it further up: ``# noqa: X  # why``, ``# type: ignore[x]  # why``."""
    pragmas = [found for one in comments(source) if (found := PRAGMA.match(one))]
    return {found["what"] for found in pragmas} - {found["what"] for found in pragmas if found["why"]}


def test_an_exception_to_a_check_has_a_reason() -> None:
    """In everything but tests, which mypy does not check and ruff checks with fewer rules."""
    held = {name(path): unreasoned(path.read_text()) for path in PYTHON if ROOT / "tests" not in path.parents}
    assert {path: bare for path, bare in held.items() if bare} == {}


def test_an_exception_names_what_exists() -> None:
    excused = [one.partition(":")[0] for one in (*LONG_FILES, *LONG_FUNCTIONS, *BROAD_EXCEPTS)]
    assert [path for path in excused if ROOT / path not in SOURCES] == []


class TestTheRulesThemselves:
    """Each rule finds what it is for."""

    def test_size(self) -> None:
        body = "".join(f"    a{at} = 1\n    # why\n\n" for at in range(FUNCTION_LINES + 1))
        assert long_functions(f'def f():\n    """Say.\n\n    More.\n    """\n{body}') == {"f": FUNCTION_LINES + 1}
        assert long_functions(body.replace("    ", "")) == {}

    def test_broad(self) -> None:
        source = "def f():\n  try: pass\n  except {}: {}\n"
        assert list(broad_excepts(source.format("Exception", "pass"))) == ["f"]
        assert list(broad_excepts(source.format("(OSError, BaseException)", "pass"))) == ["f"]
        assert list(broad_excepts("try: pass\nexcept: pass\n")) == ["<module>"]
        assert list(broad_excepts(source.format("Exception", "raise"))) == []
        assert list(broad_excepts(source.format("OSError", "pass"))) == []

    def test_reasons(self) -> None:
        assert unreasoned("a = 1  # noqa: S101\n") == {"noqa: S101"}
        assert unreasoned("a = 1  # type: ignore\n") == {"type: ignore"}
        assert unreasoned("a = 1  # noqa: S101  # why\nb = 1  # noqa: S101\n") == set()
        assert unreasoned("a = 1  # noqa: S101  # why\nb = 1  # noqa: S104\n") == {"noqa: S104"}
