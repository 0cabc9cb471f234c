"""Modules that hold modules in a row, named "0", "1", …"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

from .module import Module


class ModuleList(Module):
    """A list of modules whose parameters are found, as they would not be in a Python list."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__} holds modules, not {type(module).__name__}; "
                "write a small Module around a function"
            )
        setattr(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> list[Module]: ...
    def __getitem__(self, index: int | slice) -> Module | list[Module]:
        return list(self)[index]

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(
            "a ModuleList has no forward: loop over it, or use Sequential for one after the other"
        )

    def _named_reprs(self) -> Iterator[tuple[str, str]]:
        """Neighbors that read the same are shown once: ``(0-3): 4 x Block(…)``."""
        rows = list(super()._named_reprs())
        start = 0
        for i in range(1, len(rows) + 1):
            if i == len(rows) or rows[i][1] != rows[start][1]:
                same, text = i - start, rows[start][1]
                yield (f"{start}", text) if same == 1 else (f"{start}-{i - 1}", f"{same} x {text}")
                start = i


class Sequential(ModuleList):
    """Modules applied one after the other."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

    def _named_reprs(self) -> Iterator[tuple[str, str]]:
        return Module._named_reprs(self)
