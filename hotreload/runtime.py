"""A Python program as a host: slots with fallbacks, native modules that replace them while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hotreload import native
from hotreload.errors import HotreloadError
from hotreload.model import SAME, Failure, Report

# By their own names: they are on the path of every call.
_pointer, _WRITABLE = native.pointer, native.WRITABLE

Buffer = Any
"""What has the buffer protocol (bytes-like, ctypes, numpy), a cffi pointer, an address as int, or None for null."""


_TYPED: dict[str, object] = {}


class Slot:
    """A named patch point. Call it like a function; `Runtime.register_fallback` and `Runtime.slot` make it."""

    def __init__(self, handle: native.SlotHandle) -> None:
        self._handle = handle
        self.call_pointers = handle.call
        """The same as a call, with what C takes as it is: cffi pointers, or bytes for the input."""

    @property
    def symbol(self) -> str:
        """The slot's name."""
        return self._handle.symbol

    def close(self) -> None:
        """Makes every later call raise HotreloadError (``E-USAGE``); `Runtime.close` does it where it is needed."""
        self._handle = native.ClosedSlot(self._handle.symbol)
        self.call_pointers = self._handle.call

    def __call__(self, state: Buffer = None, given: Buffer = None, result: Buffer = None) -> int:
        """Calls the current implementation with the GIL released, and returns its status.

        Args:
            state: The host's state, written to by the implementation.
            given: The input, only read.
            result: The output, written to.

        Returns:
            The implementation's status; ``native.UNRESOLVED`` (-38) when the slot has none.

        Raises:
            TypeError: ``state`` or ``result`` cannot be written to, or an argument is no contiguous buffer.
        """
        return self._handle.call(
            _pointer(state, _WRITABLE),
            _pointer(given),
            _pointer(result, _WRITABLE),
        )

    def __repr__(self) -> str:
        return f"<hotreload.Slot {self.symbol!r}>"


class Runtime:
    """Slots and the modules loaded into them.

    A process has one default runtime, which is the usual one to serve; further ones (``default=False``) have slots of
    their own. Usable as a context manager, which closes it.
    """

    def __init__(self, *, default: bool = True) -> None:
        self._handle = native.RuntimeHandle(default=default)
        self._default = default
        self._slots: dict[str, Slot] = {}
        self._context: Any = None
        self._serving = False
        self.typed: dict[str, object] = _TYPED if default else {}
        """The typed slots by symbol (`hotreload.slot` makes them); all objects of the default runtime share them."""

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops serving and gives the slots back; a default runtime keeps them. Modules stay resident.

        No thread may be inside a slot of a runtime that is not the default one. May be called twice; every other
        method raises HotreloadError (``E-USAGE``) from then on.
        """
        if self._serving:
            native.stop()
            self._serving = False
        if not self._default:
            for slot in self._slots.values():
                slot.close()
        self._handle.free()

    @property
    def generation(self) -> int:
        """Number of commits so far."""
        return self._handle.generation()

    def set_context(self, context: Buffer) -> None:
        """The ``host_state`` that modules' ``on_load`` and ``on_unload`` receive. Kept alive by the runtime."""
        pointer = _pointer(context, _WRITABLE)
        self._handle.set_context(native.address(pointer))
        self._context = (context, pointer)

    def register_fallback(self, symbol: str, fallback: Any | Callable[[int, int, int], int | None]) -> Slot:
        """Declares a slot.

        Args:
            symbol: 1 to 127 bytes of UTF-8.
            fallback: What runs until a module implements the slot: a cffi or ctypes function pointer or an address of
                ``int32_t f(void *state, const void *input, void *output)``, or a Python callable that receives the
                three addresses and returns a status (None is 0; an exception goes to `sys.unraisablehook`, which prints
                it, and becomes -1).

        Raises:
            HotreloadError: ``E-DUPLICATE``: it has a fallback; ``E-USAGE``: the name is invalid; ``E-LIMIT``.
        """
        handle = native.SlotHandle(symbol, fallback)
        self._handle.declare(handle)
        # Kept for ever: threads may be inside the fallback long after the last reference to the slot is gone.
        native.keep(handle)
        # A module may have created the slot before, and `slot` given it out: there is one object for each slot.
        return self._slots.setdefault(symbol, Slot(handle))

    def describe(self, slot: native.DescribedSlot) -> None:
        """Tells what a slot takes, so that a module built for something else is refused (``E-LAYOUT``).

        Raises:
            HotreloadError: ``E-USAGE``: a type of the same name is known already, and differs.
        """
        self._handle.describe(slot)

    def slot(self, symbol: str) -> Slot:
        """The slot of that name, declared or created by a module. Raises HotreloadError (``E-NO-SLOT``)."""
        known = self._slots.get(symbol)
        if known is None:
            handle = native.SlotHandle(symbol)
            self._handle.find(handle)
            known = self._slots[symbol] = Slot(handle)
        return known

    def load_module(self, path: str | os.PathLike[str]) -> Report:
        """Stages, checks and swaps in one module. Code ``same`` when this content runs already.

        Raises:
            Rejected: With the code, what was found and expected, and the fix; nothing has changed.
        """
        return self.load_modules([path])[0]

    def load_modules(self, paths: list[str | os.PathLike[str]]) -> tuple[Report, ...]:
        """The same for several modules in one step: all of them swap or none does."""
        return _raise_first(self._handle.load([os.fspath(path) for path in paths]))

    def rollback(self, module: str | None = None) -> tuple[Report, ...]:
        """Takes back a module, or all that the newest commit brought in; its content is quarantined.

        Raises:
            HotreloadError: ``E-NO-PREVIOUS``: nothing to take back.
        """
        return _raise_first(self._handle.rollback(module))

    def list_symbols(self) -> list[str]:
        """All slots by name, sorted."""
        return self._handle.symbols()

    def loaded_modules(self) -> list[tuple[str, int]]:
        """Name and version of every module accepted so far, in order of loading."""
        return self._handle.modules()

    def serve(self, name: str, *, poll: bool = False, safe_point: bool = False) -> None:
        """Lets ``hotreload watch`` find this process.

        Args:
            name: What the user sees.
            poll: Start no thread; the program calls `poll` now and then.
            safe_point: Modules' hooks and commits wait for `safepoint`.

        Raises:
            HotreloadError: ``E-DUPLICATE``, ``E-IO`` or ``E-DENIED``.
        """
        self._handle.serve(name, poll=poll, safe_point=safe_point)
        self._serving = True

    def poll(self, timeout: float = 0.0) -> int:
        """Serves waiting requests in this thread; waits up to ``timeout`` seconds. Returns how many."""
        return native.poll(timeout)

    def safepoint(self) -> None:
        """Where a program served with ``safe_point=True`` lets a swap happen."""
        native.safepoint()


def _raise_first(reports: tuple[Report, ...]) -> tuple[Report, ...]:
    """The failure of the module that was at fault, rather than those of its companions."""
    failures: list[Failure] = [report.failure for report in reports if report.failure and report.code != SAME]
    if failures:
        at_fault = next((each for each in failures if each.code != "E-ABORTED"), failures[0])
        raise native.error_of(at_fault)
    return reports


__all__ = ["HotreloadError", "Runtime", "Slot"]
