"""No account ever sends another's credential, or gets another's answer.

Large: `python -m benchmarks.isolation`.
"""

from __future__ import annotations

from crowd import Crowd


async def test_accounts_that_share_a_manager_never_mix() -> None:
    crowd = Crowd(50)
    await crowd.run(2_000)

    assert crowd.mixed_up == []
    assert (
        crowd.outcomes["answered"] + crowd.outcomes["cancelled"] + crowd.outcomes["broken"] == 2_000
    )
    assert crowd.outcomes["answered"] > 1_200
    assert crowd.outcomes["cancelled"] > 100
    assert crowd.outcomes["broken"] > 0
    assert crowd.outcomes["connections"] < crowd.outcomes["requests"]
