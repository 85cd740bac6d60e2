"""`make test`: loads the module as a host does, and calls its slot."""

import sys
from array import array

import hotreload
from slots import tick

report = hotreload.Runtime().load_module(sys.argv[1])
assert report.code == "ok", report
counts = array("q", [5])
step = tick(counts)
assert step != 0 and counts[0] == 5 + step, (counts, step)
print("ok      the count grows by the step")
