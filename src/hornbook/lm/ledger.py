"""Tokens and money: what was spent, what was saved, what a job will cost, and where to stop."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from hornbook.errors import HornbookError
from hornbook.lm.base import Usage


class BudgetExceeded(HornbookError):
    """The next call would pass the budget. Everything paid so far is stored; the same
    command with a larger budget goes on from here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Money per million tokens, in the currency the user counts in."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0

    def __post_init__(self) -> None:
        for name in ("input_per_million", "output_per_million"):
            if not getattr(self, name) >= 0:
                raise HornbookError(f"Price.{name} is {getattr(self, name)!r}; accepted is 0 or more.")

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        return (prompt_tokens * self.input_per_million + completion_tokens * self.output_per_million) / 1e6


@dataclass(slots=True)
class Account:
    """What one model cost. "Paid" calls went to the model; "cached" ones came from the store."""

    paid_calls: int = 0
    cached_calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0
    money: float = 0.0
    money_saved: float = 0.0

    @property
    def calls(self) -> int:
        return self.paid_calls + self.cached_calls


@dataclass(frozen=True, slots=True)
class Projection:
    """What `rows` more calls will cost, from the mean of those made. `seen` is how many that were."""

    rows: int
    seen: int
    prompt_tokens: float
    completion_tokens: float
    money: float

    def sentence(self) -> str:
        return (
            f"{self.rows:,} calls: about {self.prompt_tokens:,.0f} tokens in, "
            f"{self.completion_tokens:,.0f} out, "
            f"{self.money:,.2f} in money (from {self.seen} calls seen)"
        )


class Ledger:
    """Counts the calls of a run. Thread-safe.

    `prices` maps a model name to its `Price`; a model without one costs 0.
    `budget` is the most money to spend (None: no limit).
    """

    def __init__(self, prices: Mapping[str, Price] | None = None, *, budget: float | None = None) -> None:
        if budget is not None and not budget >= 0:
            raise HornbookError(f"The budget is {budget!r}; accepted is None or an amount of at least 0.")
        self.prices = dict(prices or {})
        self.budget = budget
        self.accounts: dict[str, Account] = {}
        self._lock = threading.Lock()

    @property
    def money(self) -> float:
        """Spent so far, over all models."""
        return sum(account.money for account in self.accounts.values())

    def account(self, model: str) -> Account:
        with self._lock:
            return self.accounts.setdefault(model, Account())

    def add(self, model: str, usage: Usage, *, failed: bool = False) -> None:
        """Count one call: a paid one, or a cached one (`usage.cached`), whose price is money saved."""
        price = self.prices.get(model, Price())
        cost = price.of(usage.prompt_tokens, usage.completion_tokens)
        account = self.account(model)
        with self._lock:
            account.failed_calls += failed
            if usage.cached:
                account.cached_calls += 1
                account.cached_prompt_tokens += usage.prompt_tokens
                account.cached_completion_tokens += usage.completion_tokens
                account.money_saved += cost
            else:
                account.paid_calls += 1
                account.prompt_tokens += usage.prompt_tokens
                account.completion_tokens += usage.completion_tokens
                account.money += cost

    def add_failure(self, model: str) -> None:
        """Count a row that got no answer and cost nothing."""
        account = self.account(model)
        with self._lock:
            account.failed_calls += 1

    def project(self, rows: int, *, model: str | None = None) -> Projection:
        """What `rows` more calls of `model` (default: the only one) will cost if all are paid.

        Make ten rows first; a projection from no calls raises.
        """
        if model is None:
            if len(self.accounts) != 1:
                names = ", ".join(sorted(self.accounts)) or "none"
                raise HornbookError(f"Name the model to project; the ledger has {names}.")
            (model,) = self.accounts
        account = self.account(model)
        seen = account.calls
        if seen == 0:
            raise HornbookError(
                f"Nothing to project from: {model} has answered no call yet. Preview a few rows."
            )
        prompt = (account.prompt_tokens + account.cached_prompt_tokens) / seen * rows
        completion = (account.completion_tokens + account.cached_completion_tokens) / seen * rows
        money = self.prices.get(model, Price()).of(prompt, completion)
        return Projection(rows, seen, prompt, completion, money)

    def room_for(self, model: str, in_flight: int) -> bool:
        """Whether one call more, beside `in_flight` others, is expected to stay in the budget.

        The first call goes alone: until it has landed nobody knows what one costs.
        """
        if self.budget is None:
            return True
        account = self.account(model)
        if account.paid_calls == 0 and in_flight:
            return False
        with self._lock:
            mean = account.money / account.paid_calls if account.paid_calls else 0.0
            spent = sum(other.money for other in self.accounts.values())
        return spent < self.budget and spent + mean * (in_flight + 1) <= self.budget

    def exceeded(self) -> BudgetExceeded:
        """The error to stop with."""
        paid = sum(account.paid_calls for account in self.accounts.values())
        return BudgetExceeded(
            f"The budget of {self.budget:g} is used up: {self.money:.4f} spent on {paid} calls. "
            f"Every answer is stored; run the same command with a larger budget to go on."
        )

    def as_json(self) -> dict[str, dict[str, float]]:
        """The accounts as plain numbers, for a report."""
        return {
            model: {name: getattr(account, name) for name in account.__slots__}
            for model, account in sorted(self.accounts.items())
        }
