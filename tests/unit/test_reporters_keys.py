"""Terminal bytes to keys, in pieces of any size."""

from __future__ import annotations

import pytest

from hotreload.reporters.keys import Keys

TYPED = [
    (b"q", ["q"]),
    (b"\x1b[A\x1b[B", ["up", "down"]),
    (b"\x1bOA\x1bOB", ["up", "down"]),
    (b"\x1b[1;5A", ["up"]),
    (b"\r\n\t\x7f\x08", ["enter", "enter", "tab", "backspace", "backspace"]),
    (b"\x1b[Z\x1b[H\x1b[F\x1b[1~\x1b[4~", ["shift-tab", "home", "end", "home", "end"]),
    (b"\x1b[5~\x1b[6~", ["page-up", "page-down"]),
    (b"\x1b[3~\x1b[15~x", ["x"]),
    ("ü漢".encode(), ["ü", "漢"]),
    (b"\x01\x02\x00k", ["k"]),
    (b"\xff\xfek", ["k"]),
    (b"\x1bq", ["esc", "q"]),
]


@pytest.mark.parametrize(("data", "names"), TYPED)
def test_keys_are_named(data: bytes, names: list[str]) -> None:
    keys = Keys()
    assert keys.feed(data) == names
    assert not keys.waiting


@pytest.mark.parametrize(("data", "names"), TYPED)
def test_a_read_may_end_anywhere(data: bytes, names: list[str]) -> None:
    keys = Keys()
    found: list[str] = []
    for byte in data:
        found += keys.feed(bytes([byte]))
    assert found + keys.flush() == names


def test_a_lone_escape_is_a_key_once_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == [] and keys.waiting
    assert keys.flush() == ["esc"] and not keys.waiting
    assert keys.flush() == []


def test_a_sequence_cut_short_is_no_key() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b[1;") == [] and keys.waiting
    assert keys.flush() == []
    assert keys.feed(b"j") == ["j"]


def test_two_escapes() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b\x1b[A") == ["esc", "up"]
    assert keys.feed(b"\x1b\x1b") == ["esc"]
    assert keys.flush() == ["esc"]
