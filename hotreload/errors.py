"""One exception root and its exit codes.

HotreloadError                    exit 1   carries code, reason, found, expected, fix
├── Rejected                      exit 3   a host refused a module; nothing was swapped
├── CallFailed                    exit 1   a native implementation of a typed slot returned a status other than 0
├── NoHost                        exit 4   no host, or the host is gone (E-NO-HOST, E-HOST-GONE)
└── ConfigError                   exit 2   hotreload.toml or an argument is invalid
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_REJECTED = 3
EXIT_NO_HOST = 4
EXIT_INTERRUPTED = 130


class HotreloadError(Exception):
    """Anything that hotreload reports to its user.

    Attributes:
        code: The stable code, such as ``"E-ABI"``.
        reason: One sentence that says what happened.
        found: What was found, or empty.
        expected: What was expected, or empty.
        fix: What to do about it, or empty.
    """

    exit_code = EXIT_ERROR

    def __init__(self, code: str, reason: str, *, found: str = "", expected: str = "", fix: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.found = found
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


class Rejected(HotreloadError):
    """A module was refused; nothing in the host has changed."""

    exit_code = EXIT_REJECTED


class NoHost(HotreloadError):
    """There is no such host, or it went away."""

    exit_code = EXIT_NO_HOST


class CallFailed(HotreloadError):
    """The native implementation of a typed slot returned a status other than 0.

    Attributes:
        symbol: The slot.
        status: What it returned; -38 when nothing implements the slot.
    """

    def __init__(self, symbol: str, status: int) -> None:
        super().__init__("E-STATUS", f"{symbol} returned status {status}", found=str(status), expected="0")
        self.symbol = symbol
        self.status = status


class ConfigError(HotreloadError):
    """A configuration file or an argument is invalid."""

    exit_code = EXIT_USAGE
