"""Requests that arrive together share batches, and nothing shows of it but the speed."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from insphere.nets.layers import SCORING_ROWS
from insphere.serving.answers import Refusal
from insphere.serving.batching import Batcher, Scores


class Doubler:
    """Scores a row by twice its first feature; slow, and afraid of -13."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor
        self.sizes: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def score(self, X: NDArray[Any]) -> Scores:
        self.sizes.append(len(X))
        assert self.may_go.wait(10)
        if (X == -13).any():
            raise ValueError("thirteen")
        return Scores(self.factor * X[:, 0], X[:, 0] / 100, X[:, 0] > 50)


def rows(*values: float) -> NDArray[np.float64]:
    return np.array(values)[:, np.newaxis]


@pytest.fixture
def batcher() -> Any:
    made = Batcher(max_batch_rows=64, max_queue_rows=100, max_wait_ms=50)
    yield made
    made.close(5)


def waits(batcher: Batcher, scorer: Doubler) -> Callable[[], bool]:
    """Return whether the first batch is being scored and nothing else waits."""
    return lambda: bool(scorer.sizes) and batcher.n_queued == 0


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


def test_each_request_gets_its_own_rows(batcher: Batcher) -> None:
    scorer = Doubler()

    async def ask() -> list[Scores]:
        scorer.may_go.clear()
        first = batcher.submit(scorer, rows(1))
        await until(waits(batcher, scorer))
        later = [batcher.submit(scorer, rows(*range(number, number + number % 3 + 1))) for number in range(30)]
        scorer.may_go.set()
        return [await first, *[await one for one in later]]

    first, *later = asyncio.run(ask())
    assert first.anomaly_score.tolist() == [2.0]
    for number, scores in enumerate(later):
        expected = np.arange(number, number + number % 3 + 1)
        assert scores.anomaly_score.tolist() == (2.0 * expected).tolist()
        assert scores.p_value.tolist() == (expected / 100).tolist()
    assert scorer.sizes[0] == 1
    assert sum(scorer.sizes[1:]) == 60
    assert len(scorer.sizes) <= 4


def test_what_would_be_padding_waits_for_the_next_batch(batcher: Batcher) -> None:
    scorer = Doubler()

    async def ask() -> None:
        scorer.may_go.clear()
        waiting = [batcher.submit(scorer, rows(0))]
        await until(waits(batcher, scorer))
        waiting += [batcher.submit(scorer, rows(number)) for number in range(SCORING_ROWS + 3)]
        scorer.may_go.set()
        await asyncio.gather(*waiting)

    asyncio.run(ask())
    assert scorer.sizes == [1, SCORING_ROWS, 3]


def test_a_broken_request_does_not_hurt_its_neighbours(batcher: Batcher) -> None:
    scorer = Doubler()

    async def ask() -> list[Any]:
        scorer.may_go.clear()
        waiting = [batcher.submit(scorer, rows(0))]
        await until(waits(batcher, scorer))
        waiting += [batcher.submit(scorer, rows(number)) for number in (12, -13, 14)]
        scorer.may_go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    _, before, broken, after = asyncio.run(ask())
    assert (before.anomaly_score.tolist(), after.anomaly_score.tolist()) == ([24.0], [28.0])
    assert isinstance(broken, ValueError)


def test_a_full_queue_is_refused_and_says_when_to_come_back(batcher: Batcher) -> None:
    scorer = Doubler()

    async def ask() -> None:
        scorer.may_go.clear()
        waiting = [batcher.submit(scorer, rows(0))]
        await until(waits(batcher, scorer))
        waiting.append(batcher.submit(scorer, rows(*range(14, 104))))
        with pytest.raises(Refusal) as refused:
            batcher.submit(scorer, rows(*range(14, 30)))
        assert refused.value.status == 503
        assert int(refused.value.headers["Retry-After"]) >= 1
        scorer.may_go.set()
        await asyncio.gather(*waiting)
        # Larger than the queue, and nothing waits: it would never be taken otherwise.
        assert len((await batcher.submit(scorer, rows(*range(14, 164)))).p_value) == 150

    asyncio.run(ask())


def test_rows_for_two_models_never_share_a_batch(batcher: Batcher) -> None:
    old, new = Doubler(2), Doubler(3)

    async def ask() -> list[Scores]:
        old.may_go.clear()
        waiting = [batcher.submit(old, rows(1))]
        await until(waits(batcher, old))
        waiting += [batcher.submit(old, rows(1)), batcher.submit(new, rows(1)), batcher.submit(old, rows(1))]
        old.may_go.set()
        return await asyncio.gather(*waiting)

    assert [scores.anomaly_score[0] for scores in asyncio.run(ask())] == [2.0, 2.0, 3.0, 2.0]


def test_a_batch_waits_for_rows_that_are_announced_and_for_no_others() -> None:
    scorer, batcher = Doubler(), Batcher(max_batch_rows=64, max_queue_rows=100, max_wait_ms=30_000)

    async def ask() -> float:
        with batcher.coming():
            first = batcher.submit(scorer, rows(1))
            await asyncio.sleep(0.01)
            second = batcher.submit(scorer, rows(2))
        await asyncio.gather(first, second)
        began = time.monotonic()
        await batcher.submit(scorer, rows(3))
        return time.monotonic() - began

    seconds = asyncio.run(ask())
    batcher.close(5)
    assert scorer.sizes == [2, 1]
    assert seconds < 15  # half of what it would wait for rows that were announced


def test_closing_answers_what_waits_and_takes_no_more(batcher: Batcher) -> None:
    scorer = Doubler()

    async def ask() -> None:
        scorer.may_go.clear()
        waiting = [batcher.submit(scorer, rows(number)) for number in range(5)]
        closing = asyncio.create_task(asyncio.to_thread(batcher.close, 5.0))
        await until(lambda: batcher._closed)
        with pytest.raises(Refusal):
            batcher.submit(scorer, rows(1))
        scorer.may_go.set()
        await asyncio.gather(*waiting, closing)

    asyncio.run(ask())
    assert sum(scorer.sizes) == 5


def test_a_request_that_has_gone_is_not_scored(batcher: Batcher) -> None:
    scorer = Doubler()

    async def ask() -> None:
        scorer.may_go.clear()
        first = batcher.submit(scorer, rows(1))
        await until(waits(batcher, scorer))
        gone, stays = batcher.submit(scorer, rows(2)), batcher.submit(scorer, rows(3))
        gone.cancel()
        scorer.may_go.set()
        await first
        assert (await stays).anomaly_score.tolist() == [6.0]

    asyncio.run(ask())
    assert scorer.sizes == [1, 1]
