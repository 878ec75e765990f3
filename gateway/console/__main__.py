"""Runs the console: `python -m gateway.console SETTINGS`."""

import sys

from gateway.console.process import main

if __name__ == "__main__":
    main(sys.argv[1])
