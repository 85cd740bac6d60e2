"""Hot reload for native code: swap functions of a running program, validated, in one atomic step.

A Python program becomes a host with `slot` and `Runtime`; the command line (``hotreload watch``) drives hosts in any
language.
"""

from __future__ import annotations

__version__ = "0.1.0"

# Loaded on first use (PEP 562): `hotreload --version` and shell completion must not pay for cffi or dataclasses.
_HOME = {
    "CallFailed": "errors",
    "Change": "model",
    "ChangeKind": "model",
    "ConfigError": "errors",
    "Failure": "model",
    "HotreloadError": "errors",
    "Module": "model",
    "NoHost": "errors",
    "Rejected": "errors",
    "Report": "model",
    "Runtime": "runtime",
    "Slot": "runtime",
    "TypedSlot": "typed",
    "load_ipython_extension": "notebook",
    "signature_header": "typed",
    "slot": "typed",
    "unload_ipython_extension": "notebook",
}

__all__ = [
    "CallFailed",
    "Change",
    "ChangeKind",
    "ConfigError",
    "Failure",
    "HotreloadError",
    "Module",
    "NoHost",
    "Rejected",
    "Report",
    "Runtime",
    "Slot",
    "TypedSlot",
    "__version__",
    "signature_header",
    "slot",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hotreload.errors import CallFailed, ConfigError, HotreloadError, NoHost, Rejected
    from hotreload.model import Change, ChangeKind, Failure, Module, Report
    from hotreload.runtime import Runtime, Slot
    from hotreload.typed import TypedSlot, signature_header, slot


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
