"""Where a command under stress finds its episode: a local service, one for the whole process."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

from ..errors import ServeError

if TYPE_CHECKING:
    from ..envs.serve import LocalService
    from ..envs.tools import ToolEpisode

FACES = ("http", "mcp")


@cache
def _service() -> LocalService:
    from ..envs.serve import LocalService, Service

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="brownout-stress-"))
        local = LocalService(Service(folder))
        stack.enter_context(local)
        atexit.register(stack.pop_all().close)
    return local


def start() -> None:
    """Start the service now, so that no episode has to wait for it.

    Raises:
        MissingExtraError: the extra ``serve`` is not installed.
    """
    _service()


@contextmanager
def open_face(face: str, episode: ToolEpisode) -> Iterator[dict[str, str]]:
    """Serve an episode over HTTP and MCP while the context is open; it is not closed at the end.

    Args:
        face: ``http`` or ``mcp``; both are served, the agent's command chooses.
        episode: the episode.

    Yields:
        environment variables that tell a command where and what its work is.

    Raises:
        ServeError: there is no such face.
        MissingExtraError: the extra ``serve`` is not installed.
    """
    if face not in FACES:
        raise ServeError(f"face: got {face!r}; allowed: {', '.join(FACES)}")
    local = _service()
    task = episode.session.task
    with local.lent(episode) as base:
        yield {
            "BROWNOUT_BASE_URL": base,
            "BROWNOUT_MCP_URL": f"{base}/mcp",
            "BROWNOUT_TASK": json.dumps(task),
            "BROWNOUT_TOKEN": str(task.get("access_token", "")),
        }
