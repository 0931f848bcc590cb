"""One of the agents here as a program that works over the Model Context Protocol.

    brownout stress "mcp:python examples/agents/over_mcp.py careful" --scenario refund

The task is in the server's instructions, so the address of the endpoint is all that it is told.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from brownout.envs.remote_session import McpSession

agent = import_module(sys.argv[1] if len(sys.argv) > 1 else "careful")
with McpSession(os.environ["BROWNOUT_MCP_URL"]) as session:
    agent.handle(session)
