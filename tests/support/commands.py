"""
Runs `capio` commands, each in a process of its own, without importing the gateway for each.

The import costs over a second of CPU, and the process tests run hundreds of commands. A server
imports the command line once and forks for each command.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from typing import IO, Final, NamedTuple

from tests.support.line_server import LineServer

MODULES: Final = ("accounts", "config", "credits", "keys", "limits", "process.running", "records")
TIMEOUT_S: Final = 60.0


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    stdout: str
    stderr: str


class CommandServer(LineServer):
    """The server of commands."""

    def __init__(self) -> None:
        super().__init__("tests.support.commands")

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Outcome:
        """Run `capio` with these arguments."""
        asked = {"arguments": arguments, "environment": environment or dict(os.environ)}
        return Outcome(*json.loads(self.request(asked)))


COMMANDS: Final = CommandServer()


def serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Run commands until the input ends."""
    for module in MODULES:
        importlib.import_module(f"gateway.cli.{module}")
    for line in asked:
        call = json.loads(line)
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            child = os.fork()
            if child == 0:
                _become(call["arguments"], call["environment"], stdout, stderr)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            printed = []
            for file in (stdout, stderr):
                file.seek(0)
                printed.append(file.read().decode())
        answers.write(json.dumps([code, *printed]).encode() + b"\n")
        answers.flush()


def _become(
    arguments: list[str], environment: dict[str, str], stdout: IO[bytes], stderr: IO[bytes]
) -> None:
    """Turn the forked process into `capio`; does not return."""
    from gateway.cli.main import main  # not in the tests' own process

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    code: object = 1
    try:
        main(arguments, prog_name="capio")
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 -- the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
