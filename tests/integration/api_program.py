"""A Python host that does what it is told: one JSON list a line in (``["load", path]``, ``["rollback"]``,
``["value"]``), one JSON object a line out."""

from __future__ import annotations

import json
import sys
from typing import Any

import hotreload

FALLBACK = 5


def answer(runtime: hotreload.Runtime, slot: hotreload.Slot, request: list[str]) -> dict[str, Any]:
    """What the public API says to one request; a refusal is its exception's fields."""
    try:
        if request[0] == "load":
            return {"code": runtime.load_module(request[1]).code}
        if request[0] == "rollback":
            return {"code": runtime.rollback()[0].code}
    except hotreload.HotreloadError as error:
        names = ("code", "reason", "found", "expected", "fix")
        return {"type": type(error).__name__, **{name: getattr(error, name) for name in names}}
    return {"value": slot(bytearray(16)), "generation": runtime.generation}


def main() -> None:
    with hotreload.Runtime() as runtime:
        state = bytearray(16)
        state[8] = 7  # host_state.veto, see state.h
        runtime.set_context(state)
        slot = runtime.register_fallback("a", lambda state, given, result: FALLBACK)
        for line in sys.stdin:
            print(json.dumps(answer(runtime, slot, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
