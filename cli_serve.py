"""The commands that put tool sessions on a wire: serve (HTTP) and mcp (stdio)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .errors import ServeError

app = typer.Typer()
err = Console(stderr=True)

ProfileOption = Annotated[str, typer.Option("--profile", help="Fault profile: clean, production, hostile.")]
IntensityOption = Annotated[float, typer.Option("--intensity", min=0, help="Scales every fault; 0 is none.")]
TimeScaleOption = Annotated[
    float, typer.Option(min=0, help="Real seconds waited per simulated second: 0 none, 1 real time.")
]


@app.command()
def serve(
    records: Annotated[Path, typer.Option(help="Folder of the record; open episodes in it are taken up again.")] = (
        Path("runs/serve")
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for agents; 0 takes a free one.")] = 8420,
    control_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the control address.")] = 8421,
    time_scale: TimeScaleOption = 0.0,
    count_idle: Annotated[
        bool, typer.Option("--count-idle/--ignore-idle", help="A client's own pauses pass on the episode's clock.")
    ] = True,
    scenario: Annotated[
        list[Path] | None, typer.Option("--scenario", help="YAML file of a further workflow to offer. Repeatable.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="File with the control secret; else BROWNOUT_CONTROL_SECRET, else a new one.")
    ] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Listen beyond this machine.")] = False,
    public_url: Annotated[str | None, typer.Option(help="Base address to tell agents, behind a proxy.")] = None,
    open_episodes: Annotated[int, typer.Option(min=1, help="Episodes open at the same time.")] = 4096,
    rate: Annotated[float, typer.Option(min=0, help="Requests a second of one episode; 0 is no limit.")] = 0.0,
    connections: Annotated[int, typer.Option(min=1, help="Connections open at the same time.")] = 4096,
    body_bytes: Annotated[int, typer.Option(min=1, help="Size of a request's body.")] = 64 * 1024,
    idle_s: Annotated[float, typer.Option(min=1, help="Seconds after which an unused episode is closed.")] = 900.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as one line of JSON.")] = False,
) -> None:
    """Serve tool sessions over HTTP and MCP to agents in any language; control them from an address apart.

    Ends on SIGTERM or Ctrl-C. Episodes are recorded as they run; unfinished ones go on after a restart.
    """
    from .envs.serve import Service, is_loopback
    from .envs.serve_secrets import control_secret
    from .envs.serve_settings import ServeSettings
    from .scenarios import load_scenario

    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("brownout.serve").setLevel(logging.INFO)
    if not is_loopback(host):
        if not allow_remote:
            raise ServeError(f"--host {host}: others could reach this; add --allow-remote if they should")
        err.print(f"warning: listening on {host}: whoever reaches it can use episodes whose id they know, "
                  "unencrypted; put TLS and a firewall in front", style="yellow", highlight=False)  # fmt: skip
    secret, fresh = control_secret(secret_file)
    settings = ServeSettings(
        time_scale=time_scale, count_idle=count_idle, open_episodes=open_episodes, rate_per_s=rate,
        connections=connections, body_bytes=body_bytes, idle_s=idle_s,
    )  # fmt: skip
    loaded = [load_scenario(str(path)) for path in scenario or []]
    service = Service(
        records, settings, secret=secret, host=host, port=port, control_port=control_port, public=public_url,
        scenarios={each.name: each for each in loaded},
    )  # fmt: skip

    def ready() -> None:
        told = {"agents": service.url, "control": service.control_url, "record": str(service.store.path)}
        if fresh:
            told["secret"] = secret
        if as_json:
            print(json.dumps(told), flush=True)
            return
        if fresh:
            told["secret"] += "  (new; shown once)"
        for name, value in told.items():
            print(f"{name:8} {value}", flush=True)
        if service.store.open_count:
            print(f"{service.store.open_count} open episodes taken up", flush=True)

    service.run_until_signal(ready)


@app.command()
def mcp(
    scenario: Annotated[str, typer.Option("--scenario", "-s", help="Built-in workflow or YAML file.")] = "refund",
    seed: Annotated[int, typer.Option(min=0, help="Seed; equal seeds give equal episodes.")] = 0,
    profile: ProfileOption = "production",
    intensity: IntensityOption = 1.0,
    split: Annotated[str, typer.Option(help="eval or train.")] = "eval",
    episode: Annotated[int, typer.Option(min=0, help="Number of the episode.")] = 0,
    max_calls: Annotated[int, typer.Option(min=1, help="Calls after which the episode ends.")] = 200,
    time_scale: TimeScaleOption = 0.0,
    result: Annotated[Path | None, typer.Option(help="File for the result; default: a line on stderr.")] = None,
) -> None:
    """Serve the tools of one episode over MCP on standard input and output; an MCP client starts this command."""
    import asyncio
    import os

    from .envs.mcp_face import serve_stdio
    from .envs.tools import ToolEpisode

    if result is not None and not result.parent.is_dir():
        raise ServeError(f"--result {result}: there is no folder {result.parent}")
    held = ToolEpisode(
        scenario, seed, profile=profile, intensity=intensity, split=split, episode=episode, max_calls=max_calls
    )
    asyncio.run(serve_stdio(held.session, time_scale))
    if not held.done:
        held.close()
    outcome = held.result()
    if result is None:
        err.print(f"outcome {outcome.outcome}, utility {outcome.utility:.3f}", highlight=False)
        return
    temporary = result.with_name(f".{result.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(outcome.to_dict(), indent=2) + "\n", encoding="utf-8")
    temporary.replace(result)
