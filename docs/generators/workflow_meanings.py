"""What names of the workflow environment mean; a name without an entry stops the build."""

from __future__ import annotations

_LOOK = "let a reasoner look at the fields that the step needs; what looks wrong is flagged"
_MEND = "let a reasoner repair the flagged fields that the step needs"
_DO = "carry out the current step; this reasoner writes the arguments"
_FIT = "there is a current step and every field that it needs has been read"

ACTIONS = {
    "fetch": "read a record that the current step needs: one not read yet, else the one read longest ago / "
    "the current step needs fields",
    "validate:cheap": f"{_LOOK} / a field has been read and not been looked at, or was repaired",
    "validate:strong": f"{_LOOK} / a field has been read and not been looked at by this reasoner, or was repaired",
    "repair:cheap": f"{_MEND} / a field is flagged",
    "repair:strong": f"{_MEND}; one that it gives up is stuck / a field is flagged",
    "call:cheap": f"{_DO} / {_FIT}",
    "call:strong": f"{_DO} / {_FIT}",
    "dispatch": f"start the current step in the background, as `call:strong` would, and go on / {_FIT}",
    "verify": "read back what stands: of the current step if it is in doubt, else of the first write that was reported "
    "done and not read back, else of the current step / there is such a write",
    "refresh": "get a new token / always",
    "resync": "set up the session anew: own customer, no drafts, the present interface, an empty context, and word of "
    "which records have moved on / always",
    "compensate": "undo what is too much of a step, or a step in doubt / such a step is `compensable`",
    "clarify": "ask the requester about the flagged fields of the step, and about changes / "
    "there is a current step, and the requester still answers",
    "wait": "advance the clock to the next answer in flight or the `Retry-After`; else back off / "
    "something is in flight, or the last call failed",
    "switch": "make the next ready step the current one / another step is ready",
    "escalate": "hand to a person / `person` is set",
    "finish": "say that the work is done / always",
    "abort": "stop without saying so / always",
}

COLUMNS = {
    "steps_left": "steps until truncation",
    "clock": "virtual time since the episode began",
    "spend": "billed so far",
    "budget_left": "`budget_usd` of the episode minus `spend`, at least 0",
    "deadline_left": "`deadline_s` of the episode minus `clock`, at least 0",
    "per_usd": "price of one USD in this episode's preference",
    "per_s": "price of one second in this episode's preference",
    "token_left": "time until the expiry that the agent was told; the token may have ended before",
    "since_resync": "age of the session",
    "context": "share of the context window that is full",
    "messages": "unread messages of the requester",
    "questions_left": "questions that the requester still answers",
    "cheap_last": "the cheap reasoner was used last",
    "strong_last": "the strong reasoner was used last",
    "done": "steps believed done",
    "unknown": "steps that may or may not have been done",
    "remaining": "steps not believed done, those that a decision rules out left out",
    "ready": "steps that can be worked on now",
    "in_flight": "steps in the background or waiting for an approval",
    "unverified": "writes believed done and not read back",
    "excess": "steps with effects that must be undone",
    "step.unknown": "the current step may or may not have been done",
    "step.attempts": "calls made to carry it out",
    "step.excess": "effects of it that must be undone",
    "step.failed": "the last call made for it failed",
    "since_failure": "time since a call failed, at most twice `limits.deadline_s`, which also means never",
    "retry_in": "time until the `Retry-After` of the last failure, 0 if none",
    "fields.unseen": "fields that the step needs and that have not been read, or are known to be old",
    "fields.fetched": "read and not looked at",
    "fields.checked": "looked at by the cheap reasoner",
    "fields.assured": "looked at by the strong reasoner",
    "fields.flagged": "known or taken to be wrong",
    "fields.repaired": "repaired, or told by the requester",
    "fields.stuck": "flagged, and the strong reasoner could not repair it",
    "last.ok": "the last call succeeded, as far as one can see",
    "last.lost": "its answer was lost or unusable (time-out, reset, malformed, empty): the work may be done",
    "last.down": "refused or failed by the server (500, 502, 503, 429, or the model declined)",
    "last.unauthorized": "401: the token is no good",
    "last.forbidden": "403: the service may not be used",
    "last.not_found": "404: the input is not there (yet)",
    "last.conflict": "409: a draft is in the way, or the record has moved on",
    "last.unprocessable": "422: wrong arguments, or another interface",
    "last.locked": "423: somebody holds a lock",
    "last.pending": "202: started, or waiting for an approval",
    "at.<step>": "which step is the current one; all 0 when there is none",
    "step.writes": "the current step changes the world",
    "step.keyed": "it honours idempotency keys",
    "step.natural": "repeating it sets the same state again",
    "step.compensable": "it can be undone",
    "step.waits": "it takes effect only after an approval",
    "<step>.belief": "0 to do, 1 done, 2 unknown, 3 in flight, 4 ruled out by a decision",
}

LIBRARY = {
    "refund": "find the customer, check the policy, pay back or decline, tell the customer; the default",
    "address-change": "one new address into three systems that know nothing of each other, in parallel",
    "order-exchange": "reserve and ship another article or pay back, and send a return label meanwhile",
    "subscription-cancel": "stop the billing, take the access away, send the final invoice if something is owed",
    "invoice-reconcile": "compare invoice, order and goods; post or dispute; amounts in wrong units",
    "customer-onboarding": "open an account, then billing, an approved credit line and the contact in parallel",
    "claim-intake": "open and assign a claim or decline; one in seven was begun by a colleague",
    "moving-refund": "refund over twelve weeks in which requests, records, interfaces, answers and prices move: "
    "profile `drift`",
    "access-request": "approval, grant and audit log, or refusal; a wrong grant costs more than a right one brings",
}
