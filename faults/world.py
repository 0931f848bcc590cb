"""What a fault may know of the environment: the services that exist and a few named numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import FaultError
from .calls import Verb

Table = NDArray[np.float64]
"""A number per verb and service, shape ``(len(Verb), len(services))``."""


@dataclass(frozen=True)
class Services:
    """The services of an environment, in the order of ``Calls.service``.

    Args:
        names: one name per service.
        families: the provider family of each; a family shares outages, limits and capacity.
        verbs: the verbs that each takes; None: those of the router, see :meth:`placeable`.

    Raises:
        FaultError: if the two differ in length or a name is there twice.
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    verbs: tuple[tuple[Verb, ...], ...] | None = None

    def __post_init__(self) -> None:
        if len(self.names) != len(self.families):
            raise FaultError(f"{len(self.names)} service names but {len(self.families)} families")
        if len(set(self.names)) != len(self.names):
            raise FaultError(f"service names must differ: {', '.join(self.names)}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def family_names(self) -> tuple[str, ...]:
        """The families, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.families))

    def family_index(self) -> NDArray[np.int64]:
        """Return the ``(K,)`` index of each service's family in :attr:`family_names`."""
        order = {name: index for index, name in enumerate(self.family_names)}
        return np.array([order[family] for family in self.families], dtype=np.int64)

    def in_family(self, family: str) -> NDArray[np.bool_]:
        """Return the ``(K,)`` mask of the services of one family.

        Raises:
            FaultError: if there is no such family, naming those there are.
        """
        if family not in self.families:
            raise FaultError(
                f"family = {family!r} is not a provider family here; allowed: {', '.join(self.family_names)}"
            )
        return np.array([name == family for name in self.families])

    def placeable(self) -> NDArray[np.bool_]:
        """Return the ``(len(Verb), K)`` mask of calls that can occur.

        Without ``verbs``, services called ``judge`` and ``person`` take judge calls and escalations and nothing
        else; where one of them is missing, any service may take its calls.
        """
        if self.verbs is not None:
            return np.array([[verb in own for own in self.verbs] for verb in Verb], dtype=np.bool_)
        mask = np.ones((len(Verb), len(self)), dtype=np.bool_)
        for verb, name in ((Verb.JUDGE, "judge"), (Verb.ESCALATE, "person")):
            if name in self.names:
                column = self.names.index(name)
                mask[verb] = False
                mask[:, column] = False
                mask[verb, column] = True
        return mask

    def matching(self, pattern: str) -> NDArray[np.bool_]:
        """Return the ``(len(Verb), K)`` mask of calls whose service or verb matches a glob.

        Raises:
            FaultError: if nothing matches, naming the services and verbs there are.
        """
        service = np.array([fnmatchcase(name, pattern) for name in self.names])
        taken = np.asarray(self.placeable().any(axis=1))
        verb = np.array([fnmatchcase(name, pattern) for name in Verb.words()]) & taken
        if not (service.any() or verb.any()):
            verbs = ", ".join(word for word, there in zip(Verb.words(), taken, strict=True) if there)
            raise FaultError(
                f"on({pattern!r}) matches no service and no verb; services: {', '.join(self.names)}; verbs: {verbs}"
            )
        return verb[:, None] | service[None, :]


class World(Protocol):
    """Named numbers of the lanes, for trigger conditions and the injection log."""

    @property
    def names(self) -> Sequence[str]:
        """The names that :meth:`value` knows."""
        ...

    def value(self, name: str, lanes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the ``(n,)`` values of one name for ``(n,)`` lanes."""
        ...


class EmptyWorld:
    """A world with no named numbers; every name in a condition is refused."""

    names: tuple[str, ...] = ()

    def value(self, name: str, lanes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Refuse every name."""
        raise FaultError(f"{name!r} is not a known quantity here; there is none")
