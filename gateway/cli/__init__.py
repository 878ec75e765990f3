"""
The command line: `capio`.

Subcommands are imported on demand, so that `capio --help` is fast. Results go to standard output as
a table, or as JSON with `--json`; everything else goes to standard error. The exit code is 0 for
success, 1 for a failure, and 2 for a usage or configuration error.
"""

from gateway.cli.main import main

__all__ = ["main"]
