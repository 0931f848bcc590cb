"""One of the agents here as a program that works over HTTP.

    brownout stress "http:python examples/agents/over_http.py careful" --scenario refund

A program in any language would do: all it needs is the base address, the task, and the OpenAPI document below it.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from brownout.envs.remote_session import HttpSession

agent = import_module(sys.argv[1] if len(sys.argv) > 1 else "careful")
with HttpSession(os.environ["BROWNOUT_BASE_URL"], json.loads(os.environ["BROWNOUT_TASK"])) as session:
    agent.handle(session)
