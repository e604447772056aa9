"""Tokens and money: what was spent, what was saved, what a job will cost, and where to stop."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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

    @property
    def known(self) -> bool:
        """Whether anything costs anything."""
        return bool(self.input_per_million or self.output_per_million)

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        return (prompt_tokens * self.input_per_million + completion_tokens * self.output_per_million) / 1e6


@dataclass(slots=True)
class Account:
    """What one model cost. "Paid" calls went to the model; "cached" ones came from the store.

    `seconds` is how long the answers took, added up over calls (of cached ones: when they were paid for);
    `at_once` the most calls that were on their way together.
    """

    paid_calls: int = 0
    cached_calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0
    money: float = 0.0
    money_saved: float = 0.0
    seconds: float = 0.0
    at_once: int = 0

    @property
    def calls(self) -> int:
        return self.paid_calls + self.cached_calls

    @property
    def tokens(self) -> int:
        """Of all calls, in and out."""
        return (
            self.prompt_tokens
            + self.completion_tokens
            + self.cached_prompt_tokens
            + self.cached_completion_tokens
        )


@dataclass(frozen=True, slots=True)
class Projection:
    """What `calls` calls will cost if all are paid, from the mean of those made. `seen` is how many that
    were; `seconds` is for one call at a time."""

    calls: float
    seen: int
    prompt_tokens: float
    completion_tokens: float
    money: float
    seconds: float = 0.0
    at_once: int = 1

    def sentence(self) -> str:
        """Everything in one line, the time for `at_once` calls at a time."""
        from hornbook.lab.files import human_seconds

        parts = [
            f"about {self.calls:,.0f} calls",
            f"{self.prompt_tokens:,.0f} tokens in",
            f"{self.completion_tokens:,.0f} tokens out",
            f"{self.money:,.2f} in money",
        ]
        if self.seconds:
            pace = f" at {self.at_once} calls at once" if self.at_once > 1 else ""
            parts.append(f"{human_seconds(self.seconds / max(1, self.at_once))}{pace}")
        return f"{', '.join(parts)} (from {self.seen} calls seen)"


ANY = "*"
"""The name under which a price holds for every model that has none of its own."""


class Ledger:
    """Counts the calls of a job. Thread-safe.

    `prices` maps a model name to its `Price` (`ANY`: all others); a model without one costs 0. `budget` is
    the most money, and `budget_tokens` the most tokens, that the job may cost *in all*: answers that come
    from the call store count as they were paid, so that the same command with the same budget does not spend
    it again.
    """

    def __init__(
        self,
        prices: Mapping[str, Price] | None = None,
        *,
        budget: float | None = None,
        budget_tokens: int | None = None,
    ) -> None:
        for name, value in (("budget", budget), ("budget of tokens", budget_tokens)):
            if value is not None and not value >= 0:
                raise HornbookError(f"The {name} is {value!r}; accepted is None or an amount of at least 0.")
        self.prices = dict(prices or {})
        self.budget = budget
        self.budget_tokens = budget_tokens
        self.accounts: dict[str, Account] = {}
        self._lock = threading.Lock()

    @property
    def money(self) -> float:
        """Spent so far in this run, over all models."""
        return sum(account.money for account in self.accounts.values())

    def price(self, model: str) -> Price:
        """Of a model, by its name."""
        return self.prices.get(model) or self.prices.get(ANY) or Price()

    def account(self, model: str) -> Account:
        with self._lock:
            return self.accounts.setdefault(model, Account())

    def add(self, model: str, usage: Usage, *, failed: bool = False, seconds: float = 0.0) -> None:
        """Count one call: a paid one, or a cached one (`usage.cached`), whose price is money saved.

        seconds: how long the answer took, of a cached one when it was paid for.
        """
        cost = self.price(model).of(usage.prompt_tokens, usage.completion_tokens)
        account = self.account(model)
        with self._lock:
            account.failed_calls += failed
            account.seconds += seconds
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

    def project(self, times: float, *, model: str | None = None) -> Projection:
        """What as many calls as were made, `times` over, will cost if all are paid.

        Make ten rows first, then `project(rows / 10)`.

        Args:
            model: default is the only one there is.

        Raises:
            HornbookError: no call was made yet, or several models answered and none is named.
        """
        if model is None:
            if len(self.accounts) != 1:
                names = ", ".join(sorted(self.accounts)) or "none"
                raise HornbookError(f"Name the model to project; the ledger has {names}.")
            (model,) = self.accounts
        account = self.account(model)
        if account.calls == 0:
            raise HornbookError(
                f"Nothing to project from: {model} has answered no call yet. Preview a few rows."
            )
        prompt = (account.prompt_tokens + account.cached_prompt_tokens) * times
        completion = (account.completion_tokens + account.cached_completion_tokens) * times
        return Projection(
            calls=account.calls * times,
            seen=account.calls,
            prompt_tokens=prompt,
            completion_tokens=completion,
            money=self.price(model).of(prompt, completion),
            seconds=account.seconds * times,
            at_once=max(1, account.at_once),
        )

    def forecast(self, times: float) -> str:
        """`project` of every model that answered, a sentence each; what has no price says so."""
        told = []
        for model in sorted(name for name, account in self.accounts.items() if account.calls):
            priced = "" if self.price(model).known else " (no price given)"
            told.append(f"{model}: {self.project(times, model=model).sentence()}{priced}")
        return "; ".join(told) or "no model was asked anything"

    def forecast_of(self, model: str, calls: Sequence[tuple[Usage, float]], times: float) -> str:
        """As `forecast`, from some calls of a model (tokens, seconds) while others are under way."""
        part = Ledger(self.prices)
        for usage, seconds in calls:
            part.add(model, usage, seconds=seconds)
        part.account(model).at_once = self.account(model).at_once
        return part.forecast(times)

    def room_for(self, model: str, in_flight: int) -> bool:
        """Whether one call more, beside `in_flight` others, is expected to stay in the budget.

        The first call goes alone: until it has landed nobody knows what one costs.
        """
        account = self.account(model)
        account.at_once = max(account.at_once, in_flight + 1)
        if self.budget is None and self.budget_tokens is None:
            return True
        if account.calls == 0 and in_flight:
            return False
        with self._lock:
            calls = max(1, account.calls)
            more = in_flight + 1
            money, tokens = self._used()
            dear = (account.money + account.money_saved) / calls
            long = account.tokens / calls
        if self.budget is not None and (money >= self.budget or money + dear * more > self.budget):
            return False
        most = self.budget_tokens
        return most is None or (tokens < most and tokens + long * more <= most)

    def _used(self) -> tuple[float, int]:
        """Money and tokens that count against the budget: paid now, and paid before by answers used here."""
        accounts = self.accounts.values()
        money = sum(account.money + account.money_saved for account in accounts)
        return money, sum(account.tokens for account in accounts)

    def exceeded(self) -> BudgetExceeded:
        """The error to stop with."""
        money, tokens = self._used()
        paid = sum(account.paid_calls for account in self.accounts.values())
        before = sum(account.cached_calls for account in self.accounts.values())
        limits = []
        if self.budget is not None:
            limits.append(f"{self.budget:g} in money ({money:.4f} used)")
        if self.budget_tokens is not None:
            limits.append(f"{self.budget_tokens:,} tokens ({tokens:,} used)")
        return BudgetExceeded(
            f"The budget of {' and '.join(limits)} is used up by {paid:,} calls now and {before:,} answers "
            f"kept from before. Every answer is stored; run the same command with a larger budget to go on."
        )

    def table(self) -> tuple[list[str], list[list[object]]]:
        """Columns and rows of what each model cost, for a report."""
        columns = (
            "paid_calls",
            "cached_calls",
            "failed_calls",
            "prompt_tokens",
            "completion_tokens",
            "money",
        )
        accounts = self.as_json().items()
        rows = [[model, *(account[name] for name in columns)] for model, account in accounts]
        return ["model", *(name.replace("_", " ") for name in columns)], rows

    def as_json(self) -> dict[str, dict[str, float]]:
        """The accounts as plain numbers, for a report."""
        return {
            model: {name: getattr(account, name) for name in account.__slots__}
            for model, account in sorted(self.accounts.items())
        }


_SPENDING: ContextVar[Ledger | None] = ContextVar("spending", default=None)


@contextmanager
def spending(ledger: Ledger) -> Iterator[Ledger]:
    """Within this block every model that is opened by name counts its calls in `ledger` and keeps its
    budget."""
    token = _SPENDING.set(ledger)
    try:
        yield ledger
    finally:
        _SPENDING.reset(token)


def current_ledger() -> Ledger:
    """The ledger of the block we are in (see `spending`), else a new one without a budget."""
    return _SPENDING.get() or Ledger()


def read_price(text: str) -> dict[str, Price]:
    """Prices from a flag: `IN/OUT` or `MODEL=IN/OUT`, money per million tokens.

    Raises:
        HornbookError: it cannot be read.
    """
    name, _, amounts = text.rpartition("=")
    try:
        given = [float(part) for part in amounts.split("/")]
    except ValueError:
        given = []
    if len(given) != 2:
        raise HornbookError(
            f"The price {text!r} cannot be read; give money per million tokens in and out, such as "
            f"0.15/0.60, or gpt-4o-mini=0.15/0.60 for one model of several."
        )
    return {name or ANY: Price(input_per_million=given[0], output_per_million=given[1])}
