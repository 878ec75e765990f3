"""A tiny MCP server on standard input and output, with one tool."""

from __future__ import annotations

import json
import sys
from typing import Any

TOOL = {
    "name": "read_note",
    "description": "Read a note by its title.",
    "inputSchema": {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
    },
}


def result(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a request."""
    if method == "initialize":
        about = {"name": "notes", "version": "1"}
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        text = f"The note {params['arguments']['title']} says 4711."
        return {"content": [{"type": "text", "text": text}]}
    return {}


def main() -> None:
    """Respond to requests until the input ends."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            answer = {"jsonrpc": "2.0", "id": message["id"]}
            answer["result"] = result(message["method"], message.get("params", {}))
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
