"""Everything public says what it is: the reference is made of docstrings."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("p10k_jax", "tfds_builder", "configs") for path in (ROOT / package).rglob("*.py"))


def undocumented(tree: ast.Module) -> list[str]:
    """Public classes, functions and methods of a module without a docstring; '' is the module itself."""
    found = [] if ast.get_docstring(tree) else [""]
    scopes = [("", tree)]
    while scopes:
        prefix, scope = scopes.pop()
        for node in scope.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                found.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{prefix}{node.name}.", node))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path):
    if path.read_text().strip():  # an empty __init__.py makes a folder a package and says nothing
        assert undocumented(ast.parse(path.read_text())) == []


def test_the_check_sees_what_is_missing():
    source = '"""A."""\nclass A:\n    def f(self): ...\n    def _g(self): ...\ndef h(): ...\ndef i():\n    """I."""\n'
    assert undocumented(ast.parse(source)) == ["A", "h", "A.f"]
    assert undocumented(ast.parse("x = 1")) == [""]
