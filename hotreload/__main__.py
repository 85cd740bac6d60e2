"""``python -m hotreload``: the command line."""

from hotreload.commands import main

if __name__ == "__main__":
    raise SystemExit(main())
