"""Run the tests as if some packages were not installed.

    python -m pytest -p tests.plugins.block_imports --block numba,cupy

`None` in `sys.modules` is Python's own way to say "there is no such module": importing it or
anything in it raises ModuleNotFoundError, and `importlib.util.find_spec` answers None, just as
when the package is absent.
"""

import sys

import pytest


def pytest_addoption(parser):
    parser.addoption("--block", default="", metavar="NAMES", help="packages to hide, with commas")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    # Before any conftest, since a conftest may import the library.
    for name in filter(None, early_config.known_args_namespace.block.split(",")):
        if sys.modules.get(name) is not None:
            raise pytest.UsageError(f"--block {name}: pytest or a plugin has imported it")
        sys.modules[name] = None


def pytest_report_header(config):
    return f"blocked imports: {config.getoption('block') or 'none'}"
