"""Doit's commands: `doit plan`, `doit report`."""

import atexit
import gc

# A process that ends looks three times through all that it has for garbage, a tenth of the time of a look: it goes with the process anyway.
atexit.register(gc.freeze)
