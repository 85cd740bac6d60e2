"""What the host and its patch modules share: the slots, with their signatures in C. Change one only together with the
host: `hotreload dev` then starts that again, with the newest modules."""

import sys

import hotreload


@hotreload.slot("@NAME@.tick", signature="int64_t tick(int64_t counts[])")
def tick(counts):
    """The fallback: what the slot does until a module brings something better. Returns what the count grew by."""
    counts[0] += 1
    return 1


if __name__ == "__main__":  # python slots.py HEADER: the signature for C
    tick.write_header(sys.argv[1])
