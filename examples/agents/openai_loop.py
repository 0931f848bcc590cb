"""A model behind the chat interface of model providers, as an agent.

    brownout stress examples/agents/openai_loop.py:handle --scenario refund

Here a scripted model answers. For a real one:

    from openai import AsyncOpenAI
    handle = openai_agent(AsyncOpenAI, "MODEL", price=Price(input_usd=1.25, output_usd=10.0, call_s=1.5))
"""

from __future__ import annotations

from scripted_model import ScriptedModel

from brownout.trainers.agent_loop import openai_agent

handle = openai_agent(ScriptedModel(), "scripted")
