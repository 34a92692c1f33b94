"""Signatures that people can read: no union is spelt out over lines of private names."""

import inspect
import pydoc

import pytest

import insphere
from insphere.detectors.catalog import DETECTORS, detector_class


@pytest.mark.parametrize("name", DETECTORS)
def test_signatures_are_readable(name: str) -> None:
    kind = detector_class(name)
    for method in ("fit", "anomaly_score", "p_value", "predict", "score_batches", "recalibrate", "open", "anomaly_map"):
        signature = str(inspect.signature(getattr(kind, method)))
        assert "numpy._typing" not in signature and len(signature) < 600, signature


def test_help_of_a_detector_is_free_of_private_types() -> None:
    text = pydoc.render_doc(insphere.KNN, renderer=pydoc.plaintext)
    assert "fit(self, X: insphere.detectors.scoring.Rows, y: Any = None" in text
    assert "_array_like" not in text.split("Readonly properties")[0].split("fit(self")[1][:3000]
