"""Runs the console: `python -m gateway.console SETTINGS [CONFIGURATION]`."""

import gc
import sys

gc.disable()  # imports leave no garbage; `run_console` enables it once it serves

from gateway.console.process import main  # noqa: E402

if __name__ == "__main__":
    main(*sys.argv[1:])
