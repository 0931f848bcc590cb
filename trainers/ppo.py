"""Proximal policy optimisation with masked actions, in one file.

Sources: Schulman et al. (2017), arXiv:1707.06347; Huang et al., "The 37 implementation details of proximal
policy optimization" (2022); Huang and Ontanon (2022), arXiv:2006.14171, for the masks. Departures:
advantages are normalised over the whole batch, so that one average over ranks serves all minibatches; the
value net learns returns of mean 0 and deviation 1, and its last layer is corrected when these statistics
move (van Hasselt et al., 2016, arXiv:1602.07714), so that a scenario's currency does not decide the step.

All weights live in one flat vector. A training over several ranks therefore needs one all-reduce per
minibatch, a checkpoint three arrays, and Adam one kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..envs.streams import uniform
from ..errors import PolicyError, WorkerError
from ..extras import missing_extra
from .comm import Comm, Local
from .imitation import Lesson
from .policy import CLIP, F32, MASKED, Moments, Normaliser, Policy, initial_weights, shapes
from .rollout import Rollout, lane_keys
from .schedules import Schedule

if TYPE_CHECKING:
    import torch


_KINDS: dict[str, tuple[Any, str]] = {
    "int": (int, "a whole number"),
    "tuple[int, ...]": (int, "whole numbers"),
    "float": ((int, float), "a number"),
    "float | None": ((int, float), "a number"),
    "bool": (bool, "true or false"),
}
SCORES = ("auto", "regret", "value-loss")


def _option(default: Any, doc: str, low: float = 0.0, high: float = float("inf")) -> Any:
    return field(default=default, metadata={"help": doc, "low": low, "high": high})


@dataclass(frozen=True)
class PPOConfig:
    """Hyper-parameters; ``help`` in the metadata of each field is its line of ``--help``."""

    steps: int = _option(3_000_000, "environment steps of the whole training, over all ranks", 1)
    seed: int = _option(0, "seed of weights, episodes, action samples and shuffling")
    lanes: int = _option(512, "lanes stepped side by side, per rank", 1)
    rollout_steps: int = _option(32, "steps of every lane between two updates", 1)
    minibatch: int = _option(1024, "rows per gradient step, per rank", 1)
    epochs: int = _option(2, "passes over the data of each rollout", 1)
    learning_rate: float = _option(1e-3, "Adam's step size at the start")
    learning_rate_end: float = _option(0.1, "share of the step size left at the end (linear)", 0, 1)
    # Episodes end by themselves and utility is a plain sum of rewards: discounting would value the same
    # answer less for taking more actions, although the reward already charges for time and money.
    gamma: float = _option(1.0, "discount per step; 1 is the undiscounted utility that is reported", 0, 1)
    gae_lambda: float = _option(0.95, "bias (0) against variance (1) of the advantage estimate", 0, 1)
    clip: float = _option(0.2, "how far a probability ratio may move before its gradient stops")
    entropy: float = _option(0.01, "weight of the entropy bonus at the start")
    entropy_end: float = _option(0.1, "share of the entropy bonus left at the end (linear)", 0, 1)
    entropy_until: float = _option(1.0, "share of the steps after which it stays at that", 0.01, 1)
    value_coefficient: float = _option(0.5, "weight of the value loss")
    max_grad_norm: float = _option(0.5, "longest gradient; longer ones are scaled down")
    target_kl: float | None = _option(None, "end the epochs early beyond this divergence; none for never")
    hidden: tuple[int, ...] = _option((64, 64), "widths of the hidden layers, of both nets", 1)
    normalise: bool = _option(True, "normalise observations by running mean and deviation")
    threads: int = _option(1, "torch threads; more than 1 pays only for minibatches of 8k rows and more", 1)
    fault_share: str = _option("1", "share of episodes with faults, a schedule such as 0:1@0.5", 0, 1)
    intensity: str = _option("1", "multiplies the fault intensity of these, a schedule such as 0.25:1.5@0.6", 0, 10)
    replay: float = _option(0.0, "chance that an episode is one played before, drawn by score", 0, 1)
    replay_size: int = _option(4096, "episodes kept for replay, per rank", 1)
    replay_temperature: float = _option(2.0, "rank r is drawn with weight r ** (-1 / temperature)", 0.01)
    replay_staleness: float = _option(0.1, "share of replays drawn by how long they were not played", 0, 1)
    imitate: str = _option("", "teacher to imitate first: a baseline, or the folder of a policy; empty for nobody")
    imitate_share: float = _option(0.1, "share of the steps in which nothing but the teacher is learned from", 0, 1)
    imitate_weight: str = _option("0.1:0@0.5", "weight of the teacher in the loss after that, a schedule")
    replay_score: str = _option("auto", "regret, value-loss, or auto: regret where a hindsight bound is known")

    def __post_init__(self) -> None:
        """Refuse impossible values, naming field, value and range."""
        widths: Any = self.hidden  # one number, as a command line may give it, is one layer
        object.__setattr__(self, "hidden", tuple(widths) if isinstance(widths, (list, tuple)) else (widths,))
        for f in fields(self):
            value: Any = getattr(self, f.name)
            low, high = f.metadata["low"], f.metadata["high"]
            if f.type == "str":
                self._check_word(f.name, value, low, high)
                continue
            if value is None and f.name == "target_kl":
                continue
            wanted, kind = _KINDS[str(f.type)]
            parts: Any = value if f.name == "hidden" else (value,)
            for part in parts:
                fits = isinstance(part, wanted) and (wanted is bool or not isinstance(part, bool))
                if not fits or not low <= part <= high:
                    where = "" if wanted is bool else f" from {low:g} to {high:g}"
                    raise PolicyError(f"training option {f.name}: {value!r}, must be {kind}{where}")

    def _check_word(self, name: str, value: Any, low: float, high: float) -> None:
        """Check a choice, or a schedule, which is kept as text in its shortest form."""
        if name == "imitate":
            if not isinstance(value, str):
                raise PolicyError(f"training option {name}: {value!r}, must be a name or a folder")
            return
        if name == "replay_score":
            if value not in SCORES:
                raise PolicyError(f"training option {name}: {value!r}, must be one of {', '.join(SCORES)}")
            return
        try:
            schedule = Schedule.parse(value)
        except PolicyError as error:
            raise PolicyError(f"training option {name}: {error}") from None
        least, most = schedule.range
        if not low <= least <= most <= high:
            raise PolicyError(f"training option {name}: {value!r}, must stay from {low:g} to {high:g}")
        object.__setattr__(self, name, str(schedule))

    @property
    def curriculum(self) -> bool:
        """Whether it asks for anything else than every episode under all faults, each played once."""
        return self.fault_share != "1" or self.intensity != "1" or self.replay > 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PPOConfig:
        """Build from a mapping (a sweep, a checkpoint); unknown names are refused with the known ones."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise PolicyError(f"training option {name!r} is unknown; known are {', '.join(known)}")
        return cls(**values)

    @property
    def batch(self) -> int:
        """Environment steps of one rank's rollout."""
        return self.lanes * self.rollout_steps


class AllReduce:
    """Averages over the ranks of an initialised ``torch.distributed`` group (gloo on CPU)."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def mean_(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Replace every array by its average over the ranks, in one message per data type."""
        import torch
        import torch.distributed as dist

        for dtype in sorted({str(a.dtype) for a in arrays}):
            chosen = [a for a in arrays if str(a.dtype) == dtype]
            flat = torch.from_numpy(np.concatenate([np.atleast_1d(a).ravel() for a in chosen]))
            dist.all_reduce(flat)
            pieces = np.split(flat.numpy() / self.size, np.cumsum([a.size for a in chosen])[:-1])
            for array, piece in zip(chosen, pieces, strict=True):
                array[...] = piece.reshape(array.shape)


@cache
def _numpy_tanh() -> Any:
    """Return tanh computed by NumPy: the bits of the policy, in a tenth of the time of torch's own."""
    import torch

    class Tanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            y = torch.from_numpy(np.tanh(x.numpy()))
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            (y,) = ctx.saved_tensors
            return torch.ops.aten.tanh_backward(gradients[0], y)

    return Tanh.apply


class Learner:
    """Weights, optimiser and running statistics of one training.

    Args:
        config: hyper-parameters.
        columns: observation columns D.
        actions: actions A.
        comm: how ranks agree; all ranks start from the same seed and stay bit-identical.
    """

    def __init__(self, config: PPOConfig, columns: int, actions: int, comm: Comm | None = None) -> None:
        try:
            import torch
        except ImportError as error:
            raise missing_extra("train", error) from error

        torch.set_num_threads(config.threads)
        self.config, self.columns, self.actions = config, columns, actions
        self.comm: Comm = comm or Local()
        self.observations = Moments(columns)
        self.returns = Moments(1)
        self.shapes = shapes(columns, actions, config.hidden)
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])
        start = initial_weights(columns, actions, config.hidden, config.seed).values()
        self._theta = torch.nn.Parameter(torch.from_numpy(np.concatenate([w.ravel() for w in start])))
        self._theta.grad = torch.zeros_like(self._theta)
        self._weights = self._views()
        self._tanh = _numpy_tanh()
        self._adam = torch.optim.Adam([self._theta], lr=config.learning_rate, eps=1e-5, fused=True)

    def policy(self) -> Policy:
        """Return the current policy for NumPy; its values are in units of utility."""
        weights = self._arrays(self._theta.detach().numpy().copy())
        deviation, mean = np.float32(self.returns.deviation[0]), np.float32(self.returns.mean[0])
        last = len(self.config.hidden)
        weights[f"value.{last}.weight"] *= deviation
        weights[f"value.{last}.bias"] *= deviation
        weights[f"value.{last}.bias"] += mean
        return Policy(weights, Normaliser.of(self.observations, CLIP) if self.config.normalise else None)

    def observe(self, observations: F32) -> None:
        """Add a rollout's raw observations, on all ranks, to the normaliser."""
        if self.config.normalise:
            self._merge(self.observations, observations.reshape(-1, self.columns))

    def update(
        self,
        rollout: Rollout,
        iteration: int,
        learning_rate: float | None = None,
        entropy: float | None = None,
        lesson: Lesson | None = None,
    ) -> dict[str, float]:
        """Improve policy and value net on one rollout; the normaliser stays as it was while collecting.

        Args:
            rollout: collected with :meth:`policy` as it is now.
            iteration: keys the shuffling.
            learning_rate: step size of this iteration; default from the configuration.
            entropy: weight of the entropy bonus in this iteration; default from the configuration.
            lesson: how the teacher's advice in the rollout counts; None: there is none.

        Returns:
            Losses, entropy, KL divergence, clip fraction, explained variance and gradient norm, each a mean; with a
            teacher also its loss, and the share of states in which the most likely action is the teacher's.

        Raises:
            WorkerError: the gradient is not finite; the weights were not touched by it.
        """
        import torch

        config, comm = self.config, self.comm
        beta = config.entropy if entropy is None else entropy
        self._adam.param_groups[0]["lr"] = config.learning_rate if learning_rate is None else learning_rate
        rows = rollout.observations.reshape(-1, self.columns)
        normaliser = Normaliser.of(self.observations, CLIP) if config.normalise else None
        self._rescale_values(rollout.returns.reshape(-1, 1))
        spread = float(self.returns.deviation[0])
        data = [
            torch.from_numpy(np.ascontiguousarray(array))
            for array in (
                rows if normaliser is None else normaliser(rows),
                rollout.masks.reshape(-1, self.actions),
                rollout.actions.reshape(-1, 1),
                rollout.log_probs.ravel(),
                self._normal(rollout.advantages.ravel()),
                (rollout.returns.ravel() - np.float32(self.returns.mean[0])) / np.float32(spread),
                *(() if lesson is None else (rollout.advice.reshape(-1, 1),)),
            )
        ]
        count = max(1, rollout.steps // config.minibatch)
        size = rollout.steps // count
        keys = lane_keys("shuffle", config.seed, comm.rank, iteration, rollout.steps)
        gradient = self._theta.grad
        assert gradient is not None
        losses: list[dict[str, Any]] = []
        for epoch in range(config.epochs):
            order = torch.from_numpy(np.argsort(uniform(keys, 0, epoch), kind="stable"))
            shuffled = [column[order] for column in data]
            for start in range(0, count * size, size):
                batch = [column[start : start + size] for column in shuffled]
                gradient.zero_()
                loss, details = self._loss(batch, beta, lesson)
                loss.backward()
                comm.mean_([gradient.numpy()])
                norm = float(gradient.norm())
                if not np.isfinite(norm):
                    rate = self._adam.param_groups[0]["lr"]
                    raise WorkerError(
                        f"iteration {iteration}, epoch {epoch}: the gradient is not finite (loss "
                        f"{float(loss.detach())}); lower learning_rate ({rate:g}) or check the rewards"
                    )
                if norm > config.max_grad_norm:
                    gradient *= config.max_grad_norm / norm
                self._adam.step()
                losses.append(details | {"gradient_norm": torch.tensor(norm)})
            if config.target_kl is not None and "kl" in losses[-1]:
                kl = np.array([float(torch.stack([row["kl"] for row in losses[-count:]]).mean())])
                comm.mean_([kl])
                if kl[0] > config.target_kl:
                    break
        means = np.array([float(torch.stack([row[name] for row in losses]).mean()) for name in losses[0]])
        error, target = rollout.returns - rollout.values, rollout.returns
        moments = np.array([error.var(dtype=np.float64), target.var(dtype=np.float64)])
        comm.mean_([means, moments])
        explained = float(1.0 - moments[0] / moments[1]) if moments[1] > 0 else float("nan")
        return dict(zip(losses[0], means.tolist(), strict=True)) | {"explained_variance": explained}

    def _loss(
        self, batch: list[torch.Tensor], beta: float, lesson: Lesson | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The clipped surrogate minus entropy bonus plus value loss and teacher's loss, and what to report of it."""
        import torch

        x, mask, action, old_log_prob, advantage, target, *advice = batch
        logits = self._forward("policy", x).masked_fill(~mask, float(MASKED))
        log_probs = torch.log_softmax(logits.t().contiguous(), dim=0)  # 9 times as fast as dim=1
        entropy = -(log_probs.exp() * log_probs).sum(dim=0).mean()
        value_loss = 0.5 * (self._forward("value", x).squeeze(1) - target).square().mean()
        loss = self.config.value_coefficient * value_loss - beta * entropy
        report = {"value_loss": value_loss.detach(), "entropy": entropy.detach()}
        if lesson is None or not lesson.alone:
            log_ratio = log_probs.gather(0, action.t()).squeeze(0) - old_log_prob
            ratio = log_ratio.exp()
            clip = self.config.clip
            surrogate = torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
            loss = loss - surrogate
            with torch.no_grad():
                kl = (ratio - 1 - log_ratio).mean()  # Schulman's estimator, unbiased and never negative
                clipped = ((ratio - 1).abs() > clip).float().mean()
            report |= {"policy_loss": -surrogate.detach(), "kl": kl, "clip_fraction": clipped}
        if lesson is not None:
            apart = -log_probs.gather(0, advice[0].t()).mean()  # divergence from a teacher that does one thing
            loss = loss + lesson.weight * apart
            agreement = (log_probs.argmax(dim=0) == advice[0].squeeze(1)).float().mean()
            report |= {"imitation_loss": apart.detach(), "agreement": agreement}
        return loss, report

    def _forward(self, head: str, x: torch.Tensor) -> torch.Tensor:
        import torch

        last = len(self.config.hidden)
        for i in range(last + 1):
            x = torch.addmm(self._weights[f"{head}.{i}.bias"], x, self._weights[f"{head}.{i}.weight"])
            if i < last:
                x = self._tanh(x)
        return x

    def _views(self) -> dict[str, torch.Tensor]:
        """Make one leaf per layer whose data and gradient are windows of the flat vectors."""
        theta, gradient = self._theta.detach(), self._theta.grad
        assert gradient is not None
        views: dict[str, torch.Tensor] = {}
        for (name, shape), end in zip(self.shapes.items(), self._ends, strict=True):
            start = int(end) - int(np.prod(shape))
            views[name] = theta[start : int(end)].view(shape).requires_grad_()
            views[name].grad = gradient[start : int(end)].view(shape)
        return views

    def _arrays(self, flat: F32) -> dict[str, F32]:
        pieces = np.split(flat, self._ends[:-1])
        pairs = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.reshape(shape) for (name, shape), piece in pairs}

    def _rescale_values(self, returns: F32) -> None:
        """Take new returns into the statistics and keep what the value net says unchanged."""
        import torch

        old_mean, old_deviation = float(self.returns.mean[0]), float(self.returns.deviation[0])
        self._merge(self.returns, returns)
        mean, deviation = float(self.returns.mean[0]), float(self.returns.deviation[0])
        last = len(self.config.hidden)
        with torch.no_grad():
            self._weights[f"value.{last}.weight"].mul_(old_deviation / deviation)
            bias = self._weights[f"value.{last}.bias"]
            bias.mul_(old_deviation).add_(old_mean - mean).div_(deviation)

    def _normal(self, values: F32) -> F32:
        """Normalise over all ranks' values."""
        batch = Moments(1)
        self._merge(batch, values.reshape(-1, 1))
        return ((values - batch.mean[0]) / (np.sqrt(batch.m2[0] / batch.count) + 1e-8)).astype(np.float32)

    def _merge(self, moments: Moments, rows: F32) -> None:
        wide = rows.astype(np.float64)
        mean = wide.mean(axis=0)
        centre = mean.copy()
        self.comm.mean_([centre])
        variance = wide.var(axis=0) + (mean - centre) ** 2
        self.comm.mean_([variance])
        moments.merge(float(len(rows) * self.comm.size), centre, variance)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Return weights, Adam's moments and running statistics as arrays."""
        state = {"theta": self._theta.detach().numpy().copy()}
        for name, value in self._adam.state[self._theta].items():
            state[f"adam.{name}"] = np.array(value.numpy())
        for name, moments in (("observations", self.observations), ("returns", self.returns)):
            state |= {f"{name}.{key}": value for key, value in moments.get_state().items()}
        return state

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue exactly from :meth:`get_state`.

        Raises:
            PolicyError: the state belongs to a network of another size.
        """
        import torch

        if state["theta"].shape != tuple(self._theta.shape):
            raise PolicyError(
                f"the state holds {state['theta'].size} weights, but {self.columns} columns, hidden layers "
                f"{self.config.hidden} and {self.actions} actions need {self._theta.numel()}"
            )
        with torch.no_grad():
            self._theta.copy_(torch.from_numpy(np.array(state["theta"])))
        adam = {name: value for name, value in state.items() if name.startswith("adam.")}
        self._adam.state[self._theta] = {name[5:]: torch.from_numpy(np.array(v)) for name, v in adam.items()}
        for name, own in (("observations", self.observations), ("returns", self.returns)):
            own.set_state({key: state[f"{name}.{key}"] for key in ("count", "mean", "m2")})

    def load_policy(self, policy: Policy) -> None:
        """Start from a trained policy (warm start): weights and normaliser; Adam begins afresh.

        Raises:
            PolicyError: the policy has other sizes, or only one of the two has a normaliser.
        """
        if (policy.normaliser is not None) != self.config.normalise:
            raise PolicyError(f"the policy and normalise={self.config.normalise} do not agree on a normaliser")
        wanted, given = list(self.shapes.items()), [(name, w.shape) for name, w in policy.weights.items()]
        if wanted != given:
            raise PolicyError(f"the policy has the layers {given}, this training needs {wanted}")
        state = self.get_state()
        state = {name: value for name, value in state.items() if not name.startswith("adam.")}
        state["theta"] = np.concatenate([w.ravel() for w in policy.weights.values()])
        state |= {f"returns.{name}": value for name, value in Moments(1).get_state().items()}
        if policy.normaliser is not None:
            deviation = policy.normaliser.deviation.astype(np.float64)
            deviation[np.isinf(deviation)] = 0.0  # never moved
            count = np.array(float(self.config.batch))
            state |= {
                "observations.count": count,
                "observations.mean": policy.normaliser.mean.astype(np.float64),
            }
            state["observations.m2"] = deviation**2 * count
        self.set_state(state)
