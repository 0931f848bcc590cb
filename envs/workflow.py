"""``brownout/Workflow-v0``: act on messy systems, and know what has been done.

A multi-step business process over records held by services that need a token and a session. Physics is in
:mod:`brownout.envs.workflow_core`; the ambiguity of a lost answer follows the literature on remote calls (Birrell and
Nelson 1984: at-most-once, at-least-once), compensation that of sagas (Garcia-Molina and Salem 1987).
"""

from __future__ import annotations

from .scenario_env import ScenarioEnv, ScenarioVectorEnv
from .workflow_core import WorkflowCore

DEFAULT_SCENARIO = "refund"


class WorkflowEnv(ScenarioEnv):
    """A workflow of steps over records, services, a token and a session.

    ## Description
    A request arrives. The agent reads the records that its steps need, has a cheap or a strong reasoner check and
    repair them, carries the steps out, and stops. Fields may be wrong without a sign, a token may end, a session may be
    stale or another customer's, a call that timed out may have taken effect. The truth is never shown; only the
    end reveals it, through the reward.

    The agent always stands at one step, the current one: a step that is not believed done and whose predecessors are.

    ## Action Space
    ``Discrete(18)``. An action that the mask forbids does nothing and uses up a step.

    | index | action | meaning |
    | --- | --- | --- |
    | 0 | ``fetch`` | read a record that the current step needs: one not read yet, else the one read longest ago |
    | 1, 2 | ``validate:cheap``, ``validate:strong`` | let a reasoner look at the fields that the step needs |
    | 3, 4 | ``repair:cheap``, ``repair:strong`` | let a reasoner repair those that are flagged |
    | 5, 6 | ``call:cheap``, ``call:strong`` | carry out the step; the reasoner writes the arguments |
    | 7 | ``dispatch`` | start the step in the background, as ``call:strong``, and go on |
    | 8 | ``verify`` | read back what stands: of the current step if in doubt, else of the first unverified write |
    | 9 | ``refresh`` | get a new token |
    | 10 | ``resync`` | set up the session anew |
    | 11 | ``compensate`` | undo what is too much of a step, or a step in doubt |
    | 12 | ``clarify`` | ask the requester about flagged fields and changes |
    | 13 | ``wait`` | advance the clock to the next answer or ``Retry-After``; else back off |
    | 14 | ``switch`` | go to the next step that is ready |
    | 15 | ``escalate`` | hand to a person |
    | 16 | ``finish`` | say that the work is done |
    | 17 | ``abort`` | stop without saying so |

    ## Observation Space
    ``Box`` of float32; every column with name, unit and range is in ``observation_columns``:

    | columns | unit | meaning |
    | --- | --- | --- |
    | ``steps_left`` | count | steps until truncation |
    | ``clock``, ``spend`` | s, USD | used so far |
    | ``budget_left``, ``deadline_left`` | USD, s | what remains of the episode's limits |
    | ``per_usd``, ``per_s`` | utility per USD, s | the episode's preference |
    | ``token_left`` | s | until the expiry that the agent was told |
    | ``since_resync``, ``context`` | s, share | age of the session, how full the context window is |
    | ``messages``, ``questions_left`` | count | unread from the requester, questions that are still answered |
    | ``cheap_last``, ``strong_last`` | flag | reasoner used last |
    | ``done`` ... ``excess`` | count | steps by belief; writes not read back; steps with effects to undo |
    | ``step.*`` | | the current step: in doubt, calls so far, effects to undo, last call failed, its properties |
    | ``fields.*`` | count | fields that it needs, by what is known of them |
    | ``last.*`` | flag | how the last call ended |
    | ``since_failure``, ``retry_in`` | s | since a call last failed, until the time to retry it gave |
    | ``at.<step>`` | flag | which step it is |
    | ``<step>.belief`` | code | 0 to do, 1 done, 2 unknown, 3 in flight, 4 skipped |

    ## Rewards
    ``accuracy * [finished with every needed effect standing once, right, and nothing else] - per_usd * cost - per_s *
    time - late_per_s * late time + wrong_answer * (wrong, duplicate or unwanted effects that stand at the end) +
    handoff * [the person got it right]``, all per step, with the scenario's weights.

    ## Starting State
    Records bound and decisions drawn by the lane's seed and episode index; with the scenario's ``history``, part of
    the writes may have been made by earlier work, and the agent does not know which.

    ## Episode End
    1. Termination: ``finish``, ``escalate`` or ``abort``.
    2. Termination: the budget is spent, or the deadline passes (unless the scenario makes them soft).
    3. Truncation: ``max_episode_steps`` steps.

    ``info["outcome"]`` is ``success``, ``partial`` (something is missing or still on its way), ``silent_garbage``
    (something wrong stands), ``duplicate_effect``, ``escalated``, ``aborted`` or ``limit``.

    ## Arguments
    As those of :class:`brownout.envs.router.RouterEnv`; ``scenario`` is ``refund`` by default.

    ## Fault surface
    Ports ``calls``, ``session``, ``workflow`` and ``records``; services are those of the scenario, ``cheap``,
    ``strong``,
    ``auth``, ``requester`` and ``person``; verbs are fetch, validate, repair, call, verify, refresh, resync,
    compensate, clarify, escalate.

    ## Vectorized environment
    >>> import gymnasium as gym
    >>> envs = gym.make_vec("brownout.envs:brownout/Workflow-v0", num_envs=3, scenario="refund")
    >>> observation, info = envs.reset(seed=1)
    >>> observation.shape == (3, len(envs.unwrapped.observation_columns))
    True

    ## Version History
    * v0: first version.
    """

    core_type = WorkflowCore
    default_scenario = DEFAULT_SCENARIO


class WorkflowVectorEnv(ScenarioVectorEnv):
    """``num_envs`` lanes of :class:`WorkflowEnv`, stepped together; arguments are those of
    :class:`~brownout.envs.scenario_env.ScenarioVectorEnv`."""

    env_type = WorkflowEnv
