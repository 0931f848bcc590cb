"""A program under stress: talks HTTP with what the standard library has; its argument says how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import Any

BASE = os.environ["BROWNOUT_BASE_URL"]
TASK = json.loads(os.environ["BROWNOUT_TASK"])


def ask(path: str, body: dict[str, Any] | None = None) -> None:
    """One request; what comes back is not looked at."""
    headers = {"Authorization": f"Bearer {os.environ['BROWNOUT_TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data, headers, method="GET" if body is None else "POST")
    with contextlib.suppress(OSError, urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=10).read()


def main(way: str) -> int:
    """Read both records, then end."""
    ask(f"/crm/customers/{TASK['customer_id']}")
    ask(f"/shop/orders/{TASK['order_id']}")
    if way == "hang":
        time.sleep(3600)
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "spin":
        while True:
            ask("/requester/messages")
    if way == "finish":
        ask("/handoff", {"reason": "not sure"})
    return 3 if way == "status" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
