"""What names mean where the code's own descriptions do not say it; a name without an entry stops the build."""

from __future__ import annotations

ACTIONS = {
    "launch": "start one call to that configuration; takes no time / "
    "it has calls left, the episode has calls left, and fewer than `limits.max_parallel` calls run",
    "wait": "advance the clock to the next completion; back off when nothing runs / a call runs, or one has failed",
    "judge": "have the judge score the best candidate without a verdict / there is such a candidate, and a judge",
    "judge:*": "have that judge score the best candidate that it has not scored / there is such a candidate",
    "repair": "critique and repair of the best candidate, by the configuration that made it / "
    "there is a candidate, `repair` is set, and its configuration could be launched",
    "submit": "answer with the best candidate; cancels what runs / there is a candidate",
    "escalate": "hand to a person; cancels what runs / `person` is set",
    "abstain": "stop without an answer; cancels what runs / always",
}

COLUMNS = {
    "task.class": "the class of the task, known before any call",
    "task.difficulty_hint": "a noisy guess of its difficulty, known before any call; higher is harder",
    "steps_left": "steps until truncation",
    "clock": "virtual time since the episode began",
    "spend": "billed so far; calls in flight are billed when they end",
    "budget_left": "`budget_usd` of the episode minus `spend`, at least 0",
    "deadline_left": "`deadline_s` of the episode minus `clock`, at least 0",
    "per_usd": "price of one USD in this episode's preference",
    "per_s": "price of one second in this episode's preference",
    "running": "calls in flight",
    "unjudged": "candidates without a verdict",
    "best_value": "rank of the best candidate: 0 none, up to 1/3 rejected, 1/3 to 2/3 no verdict, from 2/3 accepted",
    "best_strength": "success rate of its configuration, as an operator knows it",
    "best_accepted": "the judge accepted it",
    "best_unjudged": "it has no verdict yet",
    "best_rejected": "the judge rejected it",
    "judge.*": "what this judge said of the best candidate: -1 nothing yet, 0 rejected, 1 accepted; with `quality` "
    "its score",
    "best_rounds": "rounds of repair that the best candidate has been through",
    "*.launched": "calls placed so far",
    "*.running": "calls in flight",
    "*.candidates": "calls that came back with an answer",
    "*.failed": "calls that ended in a visible failure",
    "*.last_status": "how its last finished call ended; 0 before the first (codes below)",
    "*.best_score": "-1 never judged, 0 rejected, 1 accepted",
    "*.last_cost": "cost of its last finished call against its usual one: `cost / (cost + mean)`, 0 before the first",
    "*.last_latency": "the same of the time it took",
    "*.since_failure": "time since its last visible failure, at most twice `limits.deadline_s`, which also means never",
    "*.retry_in": "time until the `Retry-After` it was given, 0 if none",
}

STATUSES = {
    "running": "no call has finished yet",
    "ok": "an answer came back; whether it is right is not shown",
    "timeout": "the client gave up waiting",
    "reset": "the connection broke",
    "server-error": "HTTP 500",
    "bad-gateway": "HTTP 502",
    "unavailable": "HTTP 503",
    "rate-limited": "HTTP 429, usually with `Retry-After`",
    "unexpected": "a status the client has no rule for",
    "malformed": "a billed answer that cannot be parsed",
    "empty": "a billed answer with nothing in it",
    "partial": "an answer that is visibly incomplete (from tables of recorded runs)",
    "refused": "the model declined the task; billed in part",
    "cancelled": "cancelled by the end of the episode",
    "unauthorized": "HTTP 401: the token is missing or no longer valid",
    "forbidden": "HTTP 403: the token lacks the scope",
    "not-found": "HTTP 404",
    "conflict": "HTTP 409 or 412: the record has changed, or something stands in the way",
    "unprocessable": "HTTP 422: the service cannot use the arguments",
    "locked": "HTTP 423: somebody else holds the record",
    "pending": "HTTP 202: accepted, and not done yet",
}

TRIGGERS = {
    "after": "after(30)",
    "always": "always",
    "bad_records": "bad_records(p=0.02, share=0.2)",
    "between": "between(10, 40)",
    "burst": "burst(mean_on=120, mean_off=7200)",
    "depends": "depends('total', 0.0, 0.1)",
    "drift": "drift(0.0, 0.3, over=1000)",
    "every": "every(5)",
    "nth_call": "nth_call(2)",
    "on": "rate(0.03) & on('frontier')",
    "own_value": "own_value(0.0, 0.1)",
    "ramp": "ramp(0.0, 0.5, over_s=60)",
    "rate": "rate(0.03)",
    "sticky": "sticky(0.1)",
    "when": "when(spend_usd > 0.2 and running >= 2)",
}

FIELDS = {
    "Scenario.version": "version of this format",
    "Scenario.name": "name in tables, run folders and policy cards",
    "Scenario.description": "what it is; the first sentence is shown by `brownout scenarios list`",
    "Scenario.env": "the environment it belongs to",
    "Scenario.limits": "ceilings of one episode",
    "Scenario.profiles": "fault plans by name; `clean` is always there and empty",
    "Scenario.tasks": "which tasks arrive: from a model, or (with `table`) from recorded runs",
    "Scenario.portfolio": "the configurations that can answer, by name",
    "Scenario.judge": "what scores a candidate; `null` for none",
    "Scenario.repair": "critique and repair; left out: no `repair` action",
    "Scenario.person": "who takes over on `escalate`; `null` for nobody",
    "ModelTasks.kind": "told apart by the presence of `table`, so it can be left out",
    "ModelTasks.classes": "share of each class of task; need not add up to 1",
    "TableTasks.kind": "told apart by the presence of `table`, so it can be left out",
    "Judge.true_positive": "chance that a right answer is accepted",
    "Judge.false_positive": "chance that a wrong answer is accepted",
    "Judge.cost_usd": "USD per verdict",
    "Judge.latency_s": "seconds per verdict",
    "Repair.cost_factor": "price of a repair, as a multiple of a fresh call",
    "Repair.latency_factor": "time of a repair, as a multiple of a fresh call",
    "Person.accuracy": "chance that the person gets it right",
    "Person.cost_usd": "USD per handover",
    "Person.latency_s": "seconds per handover",
    "Limits.budget_usd": "USD of one episode; a preference of that name replaces it",
    "Limits.deadline_s": "seconds of one episode; a preference of that name replaces it",
    "Limits.max_steps": "steps after which the episode is truncated",
    "Limits.max_parallel": "calls that may be in flight at once",
}

DISTRIBUTIONS = {
    "0.05": "always that number",
    "{median: 0.8, p95: 2.5}": "log-normal with that median and 95th percentile",
    "{mean: 0.09, spread: 0.76}": "log-normal with that mean; `spread` is the standard deviation of the logarithm",
    "{low: 1, high: 3}": "uniform",
    "{samples: [0.8, 0.9, 2.4]}": "measured values, interpolated",
}

# One line where the first sentence of a scenario's own description is too long for a table.
LIBRARY = {
    "cheap-first": "three configurations of an agent benchmark; whether to start cheap or strong hangs on the judge",
    "patch-review": "patches and three judges of different price and taste, two of which share their mistakes",
    "deep-research": "reports with a quality between 0 and 1, rounds of repair, and a budget drawn from $0.50 to $10",
    "browsecomp": "eleven published configurations of BrowseComp-Plus (model x retriever): cents to dollars, "
    "a minute to three quarters of an hour",
    "code-review": "the tickets of test-suite with a reviewing model that errs for a judge; the optimum is computed",
    "flaky-api": "one good model behind a gateway that fails in bursts of seconds; the right pause wins",
    "judge-drift": "the support desk with a judge that lets more and more wrong answers pass",
    "moving-desk": "the support desk over twelve weeks in which tickets, prices, quality, formats and the judge move: "
    "profile `drift`",
    "overnight-loop": "a backlog worked through with nobody watching; some requests loop, and every turn costs dollars",
    "price-surge": "long research tasks at two vendors whose prices move; only the bill shows it",
    "provider-outage": "two providers, the better and cheaper of which goes down for minutes at a time",
    "support-desk": "five configurations of two providers, from frequent questions to contract analysis, with an "
    "erring judge, repair and a person; the demo",
    "test-suite": "bug fixes and features of unknown difficulty, checked by a perfect judge that has a price; the "
    "optimum is computed",
    "textbook": "independent boxes with a perfect free judge; the optimum is Weitzman's index rule",
}
