"""RLlib on the native environment: registration, a masking RLModule, and a configuration that fits.

RLlib's runners assume next-step autoreset and never read an environment's ``autoreset_mode``: with same-step
autoreset every episode but the first silently loses its first transition. The mode is therefore chosen here.
``MaskedRLModule`` is made on first use, because its base class brings Ray and PyTorch.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from ..envs.cores import make_env, make_lanes
from ..envs.router import DEFAULT_SCENARIO
from ..envs.wrappers import MaskedObservation, VectorMaskedObservation
from ..extras import missing_extra

if TYPE_CHECKING:
    from ray.rllib.algorithms.ppo import PPOConfig

RLLIB_NAME = "brownout-router"
_MASKED_LOGIT = -1e8


def make_rllib(context: Any) -> Any:
    """Make the environment that RLlib asks for: batched when the context names ``num_envs``, else scalar.

    Args:
        context: an ``EnvContext`` or any mapping of arguments of
            :class:`~brownout.envs.router.RouterVectorEnv` or, for a scenario of it, of
            :class:`~brownout.envs.workflow.WorkflowVectorEnv`.
    """
    arguments = dict(context)
    num_envs = arguments.pop("num_envs", None)
    scenario = arguments.pop("scenario", DEFAULT_SCENARIO)
    if num_envs is None:
        return MaskedObservation(make_env(scenario, **arguments))
    lanes = make_lanes(scenario, num_envs, autoreset_mode=AutoresetMode.NEXT_STEP, **arguments)
    return VectorMaskedObservation(_RunnerLanes(lanes, getattr(context, "worker_index", 0) or 0))


class _RunnerLanes(VectorWrapper):
    """Lanes as one runner should see them.

    RLlib seeds neighbouring runners with neighbouring numbers, so their lanes would play the same episodes:
    each runner gets a range of seeds to itself. Of the infos only what RLlib's users want is left, because
    RLlib turns every entry into Python objects, lane by lane.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], worker_index: int) -> None:
        super().__init__(env)
        self._first_seed = worker_index << 32

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=seed if seed is None else seed + self._first_seed, options=options)

    def step(self, actions: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(actions)
        kept = {name: info[name] for name in ("action_mask", "outcome", "_outcome") if name in info}
        return observation, reward, terminated, truncated, kept


def register_rllib(name: str = RLLIB_NAME) -> str:
    """Register the environment with RLlib and return its name, for ``config.environment(name)``.

    Raises:
        MissingExtraError: without RLlib (``pip install 'brownout[rllib]'``).
    """
    try:
        from ray.tune.registry import register_env
    except ImportError as error:
        raise missing_extra("rllib", error) from error
    register_env(name, make_rllib)
    return name


def ppo_config(
    scenario: Any = DEFAULT_SCENARIO,
    num_envs: int = 64,
    *,
    profile: str = "production",
    intensity: float = 1.0,
    split: str = "train",
    seed: int | None = 0,
    num_env_runners: int = 0,
    steps: int = 64,
    hidden: tuple[int, ...] = (64, 64),
) -> PPOConfig:
    """A ``PPOConfig`` for a router scenario; change it further as usual, then ``build_algo()``.

    Args:
        scenario: built-in name or path; a scenario or mapping works where it can be sent to the runners.
        num_envs: lanes per runner.
        profile: fault profile.
        intensity: scales every fault of the profile.
        split: ``train`` or ``eval``.
        seed: seed of RLlib's runners and learners. A runner that RLlib restarts after a failure begins its
            episodes anew; with None, every start takes fresh entropy.
        num_env_runners: remote runners; 0 samples in the process of the algorithm.
        steps: steps of every lane between two updates.
        hidden: widths of the hidden layers of the policy net and of the value net.

    Raises:
        MissingExtraError: without RLlib (``pip install 'brownout[rllib]'``).
    """
    name = register_rllib()
    from gymnasium import VectorizeMode
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    batch = num_envs * steps * max(num_env_runners, 1)
    arguments = {"scenario": scenario, "profile": profile, "intensity": intensity, "split": split}
    network = DefaultModelConfig(fcnet_hiddens=list(hidden), fcnet_activation="tanh", vf_share_layers=False)
    return (
        PPOConfig()
        .environment(name, env_config=arguments)
        .env_runners(
            num_env_runners=num_env_runners,
            num_envs_per_env_runner=num_envs,
            gym_env_vectorize_mode=VectorizeMode.VECTOR_ENTRY_POINT,
            rollout_fragment_length=steps,
        )
        .rl_module(rl_module_spec=RLModuleSpec(module_class=_masked_module(), model_config=network))
        .training(
            lr=1e-3,
            gamma=1.0,
            lambda_=0.95,
            clip_param=0.2,
            entropy_coeff=0.01,
            use_kl_loss=False,
            vf_clip_param=1e6,  # the default of 10 cuts the loss of large returns
            train_batch_size_per_learner=batch,
            minibatch_size=min(max(256, batch // 32), batch),
            num_epochs=4,
        )
        .debugging(seed=seed)
    )


class RLlibPolicy:
    """A trained module as a policy that :func:`brownout.evaluate` takes: most likely actions.

    Args:
        module: a ``MaskedRLModule``, such as ``algorithm.get_module()``.
    """

    name = "rllib"

    def __init__(self, module: Any) -> None:
        self._module = module

    def act_batch(
        self, observations: NDArray[Any], mask: NDArray[Any], uniforms: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """Return ``(n,)`` actions for ``(n, D)`` raw observations and ``(n, A)`` masks."""
        import torch

        with torch.no_grad():
            seen = {"observations": torch.as_tensor(observations), "action_mask": torch.as_tensor(mask)}
            logits = self._module.forward_inference({"obs": seen})["action_dist_inputs"]
        return logits.argmax(dim=1).numpy()


@cache
def _masked_module() -> type[Any]:
    """Define the module class once its base class can be imported."""
    try:
        import torch
        from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
        from ray.rllib.core.columns import Columns
    except ImportError as error:
        raise missing_extra("rllib", error) from error

    def plain(batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with the observations alone, on a scale that suits a network."""
        raw = batch[Columns.OBS]["observations"]
        return {**batch, Columns.OBS: torch.sign(raw) * torch.log1p(torch.abs(raw))}

    def masked(outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        allowed = batch[Columns.OBS]["action_mask"] > 0
        logits = outputs[Columns.ACTION_DIST_INPUTS]
        outputs[Columns.ACTION_DIST_INPUTS] = torch.where(allowed, logits, _MASKED_LOGIT)
        return outputs

    class MaskedRLModule(DefaultPPOTorchRLModule):
        """PPO's default networks on ``observations``, with the logits of forbidden actions masked out.

        Observations pass a symmetric logarithm, because RLlib's own filter would shift the mask too.
        """

        def __init__(self, *, observation_space: Any = None, **kwargs: Any) -> None:
            self._whole_space = observation_space
            super().__init__(observation_space=observation_space["observations"], **kwargs)

        def setup(self) -> None:
            super().setup()
            self.observation_space = self._whole_space  # what a checkpoint builds the module from

        def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            return masked(super()._forward(plain(batch), **kwargs), batch)

        def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            return masked(super()._forward_train(plain(batch), **kwargs), batch)

        def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Any:
            return super().compute_values(plain(batch), embeddings)

    MaskedRLModule.__module__, MaskedRLModule.__qualname__ = __name__, "MaskedRLModule"
    return MaskedRLModule


def __getattr__(name: str) -> Any:
    if name == "MaskedRLModule":
        return _masked_module()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
