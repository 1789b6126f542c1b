"""Who is to blame when a batch fails: it is halved, and each half run again, down to single items.

A poisoned picture so fails alone, and a batch too large for the device's memory is served in smaller ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

logger = logging.getLogger("image_analyzer.clip")

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_halving(run: Callable[[list[Item]], Sequence[Result]], batch: list[Item]) -> list[Result | Exception]:
    """Give each item's result, or the exception that `run` raised for it alone; blocking.

    Args:
        run: list in, list of the same length and order out.
        batch: at least one item.
    """
    try:
        return list(_one_each(run(batch), batch))
    except Exception as error:
        if len(batch) == 1:
            return [error]
        # As text: a log record that holds the error would hold the batch too.
        logger.warning("A batch of %d failed (%s); running it as two halves.", len(batch), str(error))
    # Out here the error is gone, and with it the failed batch's tensors, which its traceback held on the device.
    half = len(batch) // 2
    return run_halving(run, batch[:half]) + run_halving(run, batch[half:])


def _one_each(results: Sequence[Result], batch: list[Item]) -> Sequence[Result]:
    if len(results) != len(batch):
        raise ValueError(f"{len(results)} results for {len(batch)} items")
    return results
