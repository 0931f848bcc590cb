"""An agent as a program of its own that speaks MCP, on the official SDK (``pip install 'brownout[serve]'``).

    brownout stress "mcp:python examples/agents/mcp_client.py" --scenario refund

It knows nothing of brownout but the address in ``BROWNOUT_MCP_URL``. Here a scripted model answers.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from mcp import Client
from scripted_model import decide

TURNS = 60


async def work(url: str) -> None:
    """Read the task, then let the model ask for tools until it needs no more."""
    async with Client(url) as client:
        task = json.loads(client.instructions or "{}")
        first = f"{task['request']}\n\n{json.dumps(task)}"
        results: dict[str, str] = {}
        for _ in range(TURNS):
            tools = [tool.name for tool in (await client.list_tools()).tools]
            asked = decide(first, tools, results)
            if not asked:
                return
            for id_, name, arguments in asked:
                answer: dict[str, Any] = (await client.call_tool(name, json.loads(arguments))).structured_content or {}
                if answer["status"] == 410 or (name in ("finish", "handoff", "abort") and answer["status"] == 200):
                    return
                results[id_] = json.dumps(answer)


if __name__ == "__main__":
    asyncio.run(work(os.environ["BROWNOUT_MCP_URL"]))
