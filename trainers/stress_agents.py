"""Agents under stress: what a user names on the command line, as something that plays one episode.

An agent is a callable that is given a session, or a command that is told where its session is served. A driver is
all that the rest of a stress run knows of either.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..errors import AgentError

if TYPE_CHECKING:
    from ..envs.tools import ToolEpisode
    from .own_episode import OwnEpisode

_SPEC: Final = re.compile(r"(?P<place>[^:]+|.+\.py):(?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")
PLACES: Final = "module:callable or path/file.py:callable"
FORMS: Final = "module:callable, path/file.py:callable, http:COMMAND or mcp:COMMAND"
_TAKES: Final = {
    "agent": ("agent(session)", "one session"),
    "tools": ("make()", "nothing"),
    "check": ("check(world, answer)", "a world and an answer"),
}
LINGER_S: Final = 5.0  # real seconds that a command gets to end after its episode has
_POLL_S: Final = 0.02
_STOP_S: Final = 2.0  # what a command gets between SIGTERM and SIGKILL


class AgentStopped(BaseException):  # not an Exception: an agent that catches those must not catch this
    """Ends an agent that goes on asking after its episode is over."""


class AgentFailed(Exception):
    """An agent's process ended badly.

    Args:
        why: one line.
        killed: whether a signal ended it.
    """

    def __init__(self, why: str, killed: bool) -> None:
        super().__init__(why)
        self.killed = killed


class AgentDriver(Protocol):
    """Plays one episode with an agent."""

    @property
    def spec(self) -> str:
        """As the user wrote it."""
        ...

    @property
    def digest(self) -> str | None:
        """Of the agent's source, where there is a file; a resumed run refuses another one."""
        ...

    @property
    def remote(self) -> bool:
        """Whether the agent runs in a process of its own."""
        ...

    def run(self, episode: ToolEpisode | OwnEpisode, stopped: Callable[[], bool]) -> Any:
        """Let the agent work until it returns, and return what it does.

        Args:
            episode: the episode, open.
            stopped: whether the agent has outlived its episode and must be ended.

        Raises:
            AgentFailed: its process ended badly.
            AgentStopped: it outlived its episode and was ended.
            BaseException: what a callable raised.
        """
        ...


@dataclass(frozen=True)
class CallableDriver:
    """``agent(session)``, plain or async."""

    spec: str
    agent: Callable[[Any], Any]
    digest: str | None
    remote: bool = False

    def run(self, episode: ToolEpisode | OwnEpisode, stopped: Callable[[], bool]) -> Any:
        """Call it; an async agent gets an event loop of its own."""
        answer = self.agent(episode.session)
        return asyncio.run(_finish(answer)) if inspect.isawaitable(answer) else answer


@dataclass(frozen=True)
class CommandDriver:
    """A program that is told by environment variables where its session is served.

    Args:
        spec: as the user wrote it.
        face: ``http`` or ``mcp``.
        command: program and arguments.
    """

    spec: str
    face: str
    command: tuple[str, ...]
    digest: str | None
    remote: bool = True

    def run(self, episode: ToolEpisode | OwnEpisode, stopped: Callable[[], bool]) -> None:
        """Serve the session, start the command and wait for its end."""
        from ..envs.tools import ToolEpisode
        from .stress_faces import open_face

        assert isinstance(episode, ToolEpisode), "tools of one's own are no service; a run refuses them"

        over_at: float | None = None
        with open_face(self.face, episode) as told:
            process = subprocess.Popen(self.command, env=os.environ | told, stdin=subprocess.DEVNULL)
            try:
                while (status := process.poll()) is None:
                    if over_at is None and episode.done:
                        over_at = time.monotonic()
                    if stopped() or (over_at is not None and time.monotonic() > over_at + LINGER_S):
                        raise AgentStopped
                    time.sleep(_POLL_S)
            finally:
                _end(process)
        if status:
            why = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            raise AgentFailed(f"{self.command[0]}: {why}", killed=status < 0)


def load_agent(spec: str) -> AgentDriver:
    """Find an agent.

    Args:
        spec: ``module:callable`` or ``path/file.py:callable``, where the callable takes a session and may be async;
            ``http:COMMAND`` or ``mcp:COMMAND`` for a program that finds ``BROWNOUT_BASE_URL``, ``BROWNOUT_TOKEN``
            and ``BROWNOUT_TASK`` in its environment.

    Raises:
        AgentError: there is no such module, file, callable or program, or importing it failed.
    """
    face, sign, command = spec.partition(":")
    if sign and face in ("http", "mcp"):
        return _command(spec, face, command)
    return CallableDriver(spec, find_callable(spec, "agent", (None,)), source_digest(spec))


def find_callable(
    spec: str, role: str, arguments: Sequence[None], modules: dict[str, ModuleType] | None = None
) -> Callable[..., Any]:
    """Import what a user named.

    Args:
        spec: ``module:callable`` or ``path/file.py:callable``.
        role: what it is for, for messages.
        arguments: it must take as many; none asks for nothing.
        modules: what was imported for other names, by place; a file is not run again.

    Raises:
        AgentError: there is no such module, file or callable, or importing it failed.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        allowed = FORMS if role == "agent" else PLACES
        raise AgentError(f"{role} {spec!r}: not of a form that is known; allowed: {allowed}")
    place, name = match["place"], match["name"]
    form, given = _TAKES[role]
    modules = {} if modules is None else modules
    if place not in modules:
        modules[place] = _module(f"{role} {spec!r}", place)
    found: Any = modules[place]
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AgentError(f"{role} {spec!r}: {place!r} has no {part!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise AgentError(f"{role} {spec!r}: {name!r} is a {type(found).__name__}; allowed: a callable {form}")
    try:
        if arguments:
            inspect.signature(found).bind(*arguments)
    except TypeError as error:
        raise AgentError(f"{role} {spec!r}: cannot be called with {given}: {error}") from None
    except ValueError:
        pass  # a builtin that does not say its parameters
    return found


def _command(spec: str, face: str, text: str) -> CommandDriver:
    try:
        command = tuple(shlex.split(text))
    except ValueError as error:
        raise AgentError(f"agent {spec!r}: not a command line: {error}") from None
    if not command or shutil.which(command[0]) is None:
        raise AgentError(f"agent {spec!r}: no program {command[0] if command else ''!r} on the path")
    files = [part for part in command[1:] if Path(part).is_file()]
    return CommandDriver(spec, face, command, _digest(files[0]) if files else None)


def _module(what: str, place: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            here = os.getcwd()
            if here not in sys.path:
                sys.path.insert(0, here)
            return importlib.import_module(place)
        path = Path(place).expanduser().absolute()
        if not path.is_file():
            raise AgentError(f"{what}: no file {place!r}")
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))  # as when it is run as a script
        name = f"brownout_agent_{path.stem}"  # a file may be called like a module of the standard library
        found = importlib.util.spec_from_file_location(name, path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        found.loader.exec_module(module)
        return module
    except AgentError:
        raise
    except (Exception, SystemExit) as error:
        raise AgentError(f"{what}: cannot import {place!r}: {type(error).__name__}: {error}") from error


def source_digest(spec: str) -> str | None:
    """Digest of the file in which :func:`find_callable` finds something; None for a module not imported yet."""
    place = spec.rpartition(":")[0]
    if place.endswith(".py"):
        return _digest(str(Path(place).expanduser()))
    return _digest(getattr(sys.modules.get(place), "__file__", None))


def _digest(file: str | None) -> str | None:
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


async def _finish(answer: Awaitable[Any]) -> Any:
    return await answer


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
