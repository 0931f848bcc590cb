"""What the words of a stress report mean: metrics, outcomes and how agents end."""

from __future__ import annotations

import re
from typing import Final

OUTCOME_TERMS: Final = {
    "silent_garbage": "the agent said that it was done, and something wrong stands: a wrong value, or work that nobody "
    "asked for. Nobody notices at the time.",
    "duplicate_effect": "something was done twice, such as a refund paid two times.",
    "partial": "part of what was asked for is missing, and nothing wrong stands.",
    "limit": "the deadline, the budget or the most requests of the episode were reached.",
    "aborted": "the agent gave up and left the work undone.",
    "escalated": "the agent handed the work to a person.",
    "success": "everything that was asked for stands, once, with the right values, and nothing else.",
}
AGENT_TERMS: Final = {
    "finished": "the agent ended the episode itself.",
    "returned": "the agent returned and left the episode open; it is judged by what stands.",
    "limit": "a ceiling of the run ended the episode: requests or money.",
    "loop": "the agent repeated requests without learning anything new.",
    "crash": "the agent raised an exception.",
    "hang": "the agent did not return in time.",
    "killed": "the agent's process died.",
}
METRIC_TERMS: Final = {
    "success": "share of episodes that end in success.",
    "pass@k": "chance that at least one of k attempts at the same episode succeeds.",
    "pass^k": "chance that all of k attempts at the same episode succeed: how far it can be relied on.",
    "utility": "what an episode is worth: the reward of its outcome less the price of money and time.",
    "recovery": "share of the episodes that at least one fault struck and that succeed all the same.",
    "wrong_effects": "wrong or unwanted effects that stand at the end of an episode.",
    "duplicate_effects": "effects beyond the first that stand at the end of an episode.",
    "cost_usd": "dollars an episode cost: fees of the services and what the agent reported for its own model.",
    "latency_s": "virtual seconds an episode took, waits and time-outs included; no real time passes in them.",
    "calls": "requests an episode took.",
    "p50, p95, p99": "the value that 50, 95 or 99 % of the episodes do not exceed.",
    "clean": "the episodes without any fault.",
    "faulted": "the same episodes, same seeds, with the faults of the profile.",
    "cliff": "faulted minus clean, episode by episode.",
    "struck": "episodes in which an effect happened; others may have struck the same episode.",
    "utility lost": "clean minus faulted over the episodes that the effect struck, same seeds.",
    "lost alone": "the same over all episodes with this effect as the only one; brownout stress --isolate.",
    "interval": "in brackets: the 95 % interval. Shares by Wilson, differences paired, quantiles by bootstrap.",
    "would be found from": "the true difference that this many episodes find with 80 % power; less may be missed.",
    "no score": "an episode that the harness could not play or judge. It counts as nothing, neither good nor bad.",
}  # fmt: skip


def meaning(metric: str) -> str:
    """What a metric of ``stress.json`` means; empty for an unknown one."""
    name = re.sub(r"\.p\d+$", "", metric)
    name = re.sub(r"^pass([@^])\d+$", r"pass\1k", name)
    return METRIC_TERMS.get(name) or OUTCOME_TERMS.get(name) or AGENT_TERMS.get(name) or ""
