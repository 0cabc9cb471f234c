"""The command line: ``scratchlm`` or ``python -m scratchlm``.

The commands about lessons are in :mod:`scratchlm.cli.lessons`. Every other command is a module here
with a function of the same name (``tour.py`` holds ``tour``), written for typer. A package that one
of them needs is not missed by the others.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any

COMMANDS = {  # in the order of the help
    "tour": "Check gradients, train a small GPT on real text, draw its attention.",
    "gradcheck": "Check the gradient of a function in a file: FILE:FUNCTION.",
    "train": "Train a GPT on a text file.",
    "generate": "Let a trained model write.",
    "chat": "Talk with a model that was trained to answer.",
    "fetch": "Download real texts, labeled data and trained weights.",
    "plot": "Draw the attention maps and loss curve of a trained model.",
    "bench": "Time scratchlm beside what you would run instead.",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    from . import screen

    screen.prepare()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = screen.say_warning
            build()(args=arguments, prog_name="scratchlm")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename:
            screen.say_failure(f"{error.filename}: {error.strerror}", fix=_remedy(error))
        else:
            what = error.args[0] if isinstance(error, KeyError) and error.args else error
            screen.say_failure(str(what))
        _end_all()
        raise SystemExit(1) from None
    except SystemExit as end:
        if end.code not in {None, 0, 130}:
            _end_all()
        raise


def _end_all() -> None:
    """Nobody waits for this process, if it is one of several that train."""
    import sys

    if "mpi4py.MPI" in sys.modules:
        from ..train.workers import end_all

        end_all()


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "choose a folder that you may write to, or change its permissions"
    return ""


def build() -> Any:
    """The command group, as a click command."""
    import typer
    from typer.core import TyperGroup

    from .lessons import add_commands

    class Group(TyperGroup):
        """Imports the command of a module when it is called."""

        def list_commands(self, ctx: Any) -> list[str]:
            return [*super().list_commands(ctx), *filter(_exists, COMMANDS)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name in COMMANDS and _exists(cmd_name):
                return _load(cmd_name)
            return super().get_command(ctx, cmd_name)

    app = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        rich_markup_mode="rich",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A language model from scratch in NumPy: read a lesson, check a gradient, see what a "
        "model attends to.",
        epilog="Begin with [bold]tour[/], or with [bold]read 1[/], [bold]start 1[/] and "
        "[bold]check 1[/].",
    )
    add_commands(app)
    return typer.main.get_command(app)


def _exists(name: str) -> bool:
    return importlib.util.find_spec(f".{name}", __name__) is not None


def _load(name: str) -> Any:
    import typer

    settings: dict[str, Any] = {}
    try:
        module = importlib.import_module(f".{name}", __name__)
        function, settings = getattr(module, name), getattr(module, "SETTINGS", {})
    except ModuleNotFoundError as error:
        function = _unavailable(name, str(error.name))
    single = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
    )
    words = COMMANDS[name] if not function.__doc__ else None
    single.command(name, help=words, context_settings=settings)(function)
    return typer.main.get_command(single)


def _unavailable(name: str, package: str) -> Any:
    def command() -> None:
        from .screen import fail

        fail(f"{name} needs the package {package}", fix=f"python -m pip install {package}")

    command.__doc__ = COMMANDS[name]
    return command
