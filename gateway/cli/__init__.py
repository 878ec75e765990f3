"""
The command line: `capio`.

Commands import what they need when they run, so that `capio --help` answers at once. Results go to
standard output, as a table or with `--json` as JSON; everything else goes to standard error. The
exit code is 2 for a wrong command or configuration, 1 for a failure, 0 otherwise.
"""

from gateway.cli.main import main

__all__ = ["main"]
