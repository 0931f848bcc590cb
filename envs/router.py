"""``brownout/Router-v0``: route, race, validate, repair, hand over, stop.

The decision problem joins four that are usually studied apart: routing one call, cascades, Pandora's box
(Weitzman 1979) and noisy verification. Physics is in :mod:`brownout.envs.router_core`.
"""

from __future__ import annotations

from .router_core import RouterCore
from .scenario_env import ScenarioEnv, ScenarioVectorEnv

DEFAULT_SCENARIO = "support-desk"


class RouterEnv(ScenarioEnv):
    """One task, a portfolio of ``K`` configurations, a judge, and a person to hand over to.

    ## Description
    A task arrives. The agent decides which model configuration to call, whether to call several at once,
    when to have an answer judged or repaired, and when to stop. Calls run on an event-driven clock and may
    fail, hang, be refused or come back wrong without a sign. The truth about an answer is never shown; only
    a submission reveals it, through the reward.

    ## Action Space
    ``Discrete(K + 6)``. An action that the mask forbids does nothing and uses up a step.

    | index | action | meaning |
    | --- | --- | --- |
    | 0 ... K-1 | ``launch:<configuration>`` | start one call; takes no time |
    | K | ``wait`` | advance the clock to the next completion; back off when nothing runs |
    | K+1 | ``judge`` | have the judge score the best candidate without a verdict |
    | K+2 | ``repair`` | critique and repair of the best candidate, by the configuration that made it |
    | K+3 | ``submit`` | answer with the best candidate; cancels what runs |
    | K+4 | ``escalate`` | hand to a person |
    | K+5 | ``abstain`` | stop without an answer |

    The best candidate is the one with the best verdict (accepted, none yet, rejected), then of the strongest
    configuration, then a repaired one. A cancelled call costs its share of the time it ran. Several judges have an
    action each (``judge:<name>``) in the place of ``judge``; with them, or where answers have a quality, candidates
    are ranked as in :mod:`brownout.envs.router_judging`.

    ## Observation Space
    ``Box`` of float32; every column with name, unit and range is in ``observation_columns``:

    | columns | unit | meaning |
    | --- | --- | --- |
    | ``task.*`` | flag, logit, z | what is known of the task before any call |
    | ``steps_left`` | count | steps until truncation |
    | ``clock``, ``spend`` | s, USD | used so far |
    | ``budget_left``, ``deadline_left`` | USD, s | what remains of the episode's limits |
    | ``per_usd``, ``per_s`` | utility per USD, s | the episode's preference |
    | ``running``, ``unjudged`` | count | calls in flight, candidates without verdict |
    | ``best_value``, ``best_strength`` | share | rank of the best candidate, success rate of its configuration |
    | ``best_accepted``, ``best_unjudged``, ``best_rejected`` | flag | its verdict |
    | ``<configuration>.launched`` ... ``.failed`` | count | calls so far, in flight, answered, failed |
    | ``<configuration>.last_status`` | code | how its last call ended (:class:`brownout.faults.Status`) |
    | ``<configuration>.best_score`` | score | -1 never judged, 0 rejected, 1 accepted |
    | ``<configuration>.last_cost``, ``.last_latency`` | share | of its last finished call: x / (x + its usual one) |
    | ``<configuration>.since_failure``, ``.retry_in`` | s | time since a visible failure, until ``Retry-After`` |
    | ``judge.<judge>`` | score | several judges or quality: what each said of the best candidate, -1 nothing |
    | ``best_rounds`` | count | quality: rounds of repair of the best candidate |
    | ``log_per_usd``, ``log_budget_left``, ... | log10 of the unit | for each preference that the scenario names |

    ## Rewards
    ``accuracy * [right answer submitted] - per_usd * cost - per_s * time - late_per_s * late time
    + wrong_answer * [wrong answer submitted] + handoff * [the person got it right]``, all per step, with the
    scenario's weights. With ``quality`` the accuracy is that of the answer, and an answer below its floor is wrong.
    ``info`` holds each component and ``vector_reward``.

    ## Starting State
    A task drawn from the scenario's source by the lane's seed and episode index; nothing launched.

    ## Episode End
    1. Termination: ``submit``, ``escalate`` or ``abstain``.
    2. Termination: the budget is spent, or the deadline passes (unless the scenario makes them soft).
    3. Truncation: ``max_episode_steps`` steps.

    ``info["outcome"]`` is ``success``, ``wrong_answer``, ``escalated``, ``abstained`` or ``limit``.

    ## Arguments
    ``scenario`` (built-in name, path or scenario; default ``support-desk``), ``profile`` (``clean``, ``production``,
    ``hostile``), ``intensity`` (scales all faults; 0 is bit-identical to none), ``split`` (``train``, ``eval``),
    ``max_episode_steps``, ``render_mode`` (``ansi``, ``rgb_array``). Note that ``gymnasium.make`` keeps
    ``max_episode_steps`` for its own ``TimeLimit`` wrapper, of which the observation knows nothing; set
    ``limits.max_steps`` in the scenario to limit both forms alike.

    ## Fault surface
    Ports ``calls`` and ``portfolio``; services are the configurations, the judges and ``person``; verbs are
    launch, repair, judge, escalate.

    ## Vectorized environment
    >>> import gymnasium as gym
    >>> envs = gym.make_vec("brownout.envs:brownout/Router-v0", num_envs=3, scenario="textbook")
    >>> observation, info = envs.reset(seed=1)
    >>> observation.shape == (3, len(envs.unwrapped.observation_columns))
    True

    ## Version History
    * v0: first version.
    """

    core_type = RouterCore
    default_scenario = DEFAULT_SCENARIO


class RouterVectorEnv(ScenarioVectorEnv):
    """``num_envs`` lanes of :class:`RouterEnv`, stepped together; arguments are those of
    :class:`~brownout.envs.scenario_env.ScenarioVectorEnv`."""

    env_type = RouterEnv
