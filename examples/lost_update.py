"""A simulation finds a lost update in agents that look right.

Two tellers each pay 10 into one account. The naive teller asks for the balance and then sets the new one.
With one teller, or in the order in which things usually happen, nothing is wrong with that. The careful
one hands the account the whole change, and the account's turns come one at a time.

    python examples/lost_update.py
"""

from collections.abc import Callable
from typing import Any

from greenroom import Turn, agent
from greenroom.testing import Simulation, explore


@agent(name="lost-update.account", state=lambda: {"balance": 0})
async def account(turn: Turn) -> int:
    """Knows a balance: `("get",)`, `("set", amount)` or `("add", amount)`."""
    match turn.input:
        case ("set", amount):
            turn.state["balance"] = amount
        case ("add", amount):
            turn.state["balance"] += amount
    return int(turn.state["balance"])


@agent(name="lost-update.naive")
async def naive_teller(turn: Turn) -> None:
    """Reads, adds, writes: somebody may write in between."""
    balance = await (await turn.followup("/bank/account", ("get",)))
    await (await turn.followup("/bank/account", ("set", balance + turn.input)))


@agent(name="lost-update.careful")
async def careful_teller(turn: Turn) -> None:
    """One run, one turn, nobody in between."""
    await (await turn.followup("/bank/account", ("add", turn.input)))


def two_payments(teller: Any) -> Callable[[Simulation], None]:
    """The story: an account, two tellers, and what must be in the account when all is done."""

    def story(simulation: Simulation) -> None:
        bank = simulation.spawn(account, "/bank/account")
        for name in ("anne", "bob"):
            simulation.spawn(teller, f"/bank/{name}", input=10)
            simulation.advance(0.15)
        simulation.run_until_idle()
        assert bank.state() == {"balance": 20}, f"two payments of 10 make {bank.state()['balance']}"

    return story


def main() -> None:
    """Try the naive tellers until it goes wrong, then the careful ones just as often and more."""
    try:
        explore(two_payments(naive_teller), seeds=100)
    except AssertionError as error:
        print(f"naive: {error}")
        print("\n".join(error.__notes__))
    else:
        print("naive: nothing found")
    print(f"\ncareful: {explore(two_payments(careful_teller), seeds=100)} schedules, nothing wrong")


if __name__ == "__main__":
    main()
