"""The commands serve and mcp: what they refuse, and what they tell."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brownout.cli import main
from brownout.envs.serve import Service
from brownout.scenarios.loading import LIBRARY


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages on one line, and no secret from outside."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("BROWNOUT_CONTROL_SECRET", raising=False)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Service]:
    """Services that were about to run; they only say that they are ready."""
    ran: list[Service] = []

    def run(service: Service, ready: Callable[[], None]) -> None:
        ran.append(service)
        ready()
        service.store.shut()
        for handle in service._sockets:
            handle.close()

    monkeypatch.setattr(Service, "run_until_signal", run)
    return ran


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a bad input is answered with."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    return err


def serve(folder: Path, *options: str) -> list[str]:
    """The command on free ports."""
    return ["serve", "--records", str(folder), "--port", "0", "--control-port", "0", *options]


def test_addresses_and_a_new_secret_are_told(
    tmp_path: Path, told: list[Service], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(serve(tmp_path, "--json")) == 0
    answer = json.loads(capsys.readouterr().out)
    (service,) = told
    assert answer == {
        "agents": service.url, "control": service.control_url, "record": str(tmp_path / "episodes.jsonl"),
        "secret": service.secret,
    }  # fmt: skip
    assert len(service.secret) >= 32
    assert service.url != service.control_url
    assert service.secret not in (tmp_path / "episodes.jsonl").read_text()


def test_options_reach_the_service(tmp_path: Path, told: list[Service], capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-my-own\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text((LIBRARY / "refund.yaml").read_text().replace("name: refund", "name: mine"))
    options = ["--secret-file", str(secret), "--scenario", str(mine), "--time-scale", "0.5", "--ignore-idle"]
    options += ["--rate", "7", "--connections", "9", "--open-episodes", "3", "--body-bytes", "100", "--idle-s", "60"]
    assert main(serve(tmp_path / "records", *options, "--public-url", "https://agents.example/")) == 0
    out = capsys.readouterr().out
    assert "secret" not in out.replace(str(tmp_path), "")
    (service,) = told
    assert (service.secret, service.url) == ("a-secret-of-my-own", "https://agents.example")
    kept: Any = service.settings
    assert (kept.time_scale, kept.count_idle, kept.rate_per_s, kept.connections) == (0.5, False, 7.0, 9)
    assert (kept.open_episodes, kept.body_bytes, kept.idle_s) == (3, 100, 60.0)
    assert "mine" in service.store.workflows.names()


def test_listening_beyond_this_machine_must_be_asked_for(
    tmp_path: Path, told: list[Service], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "add --allow-remote" in refusal(capsys, *serve(tmp_path, "--host", "0.0.0.0"))
    assert not told
    assert main(serve(tmp_path, "--host", "0.0.0.0", "--allow-remote")) == 0
    assert "warning: listening on 0.0.0.0" in capsys.readouterr().err
    assert len(told) == 1


def test_what_serve_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: cannot listen there" in refusal(
            capsys, "serve", "--records", str(tmp_path), "--port", port
        )
    assert "cannot read the control secret" in refusal(capsys, *serve(tmp_path, "--secret-file", str(tmp_path / "no")))
    assert "no scenario" in refusal(capsys, *serve(tmp_path, "--scenario", str(tmp_path / "no.yaml"))).lower()
    (tmp_path / "episodes.jsonl").write_text("nonsense\n")
    assert "line 1 is not of a brownout.serve/1 record" in refusal(capsys, *serve(tmp_path))


def test_what_mcp_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nonsense" in refusal(capsys, "mcp", "--scenario", "nonsense")
    assert "workflow" in refusal(capsys, "mcp", "--scenario", "support-desk")
    assert "nonsense" in refusal(capsys, "mcp", "--profile", "nonsense")
    assert "there is no folder" in refusal(capsys, "mcp", "--result", str(tmp_path / "no" / "result.json"))


@pytest.mark.parametrize(("command", "module"), [("serve", "uvicorn"), ("mcp", "mcp.server.lowlevel")])
def test_the_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(("brownout.envs.serve", "brownout.envs.mcp_face"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'brownout[serve]'" in refusal(capsys, command)
