"""The host: it owns the state and runs for as long as it likes. What happens in a tick is a slot."""

import time
from array import array

import hotreload
from slots import tick

counts = array("q", [0])  # a numpy array does as well; modules work on it without a copy

hotreload.Runtime().serve("@NAME@")
while True:
    step = tick(counts)
    print(f"count={counts[0]} step={step:+}", flush=True)
    time.sleep(0.1)
