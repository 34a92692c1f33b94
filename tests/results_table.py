"""A small table of results, made up."""

from typing import Any

import pyarrow as pa


def row(normal_class: str, method: str, seed: int, auroc: float | None, **more: Any) -> dict[str, Any]:
    fields = {
        "dataset": "digits", "label": method.upper(), "control": method == "knn", "fit_seconds": 2.0, "score_seconds": 0.1,
        "health": "ok", "commit": "abc1234", "machine": "two cores", "device": "cpu", "n_threads": 1, "concurrency": 1,
        "versions": "insphere 0.1.0",
        "detector": method, "parameters": "{}",
    }  # fmt: skip
    return {**fields, "normal_class": normal_class, "method": method, "seed": seed, "auroc": auroc, **more}


def example_results() -> pa.Table:
    return pa.Table.from_pylist(
        [
            *(row("3", "knn", seed, value) for seed, value in ((0, 0.96), (1, 0.98))),
            *(row("8", "knn", seed, value) for seed, value in ((0, 0.90), (1, 0.94))),
            *(row("3", "cae", seed, value, health="warning") for seed, value in ((0, 0.80), (1, 0.90), (2, None))),
            row("8", "cae", 0, 0.70),
        ]
    )
