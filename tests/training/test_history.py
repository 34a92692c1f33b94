import json

import pytest

from insphere.training.history import EpochRecord

RECORD = EpochRecord(epoch=2, n_epochs=40, terms={"loss": 1.5, "kl": 0.25}, validation_loss=None, lr=3e-3, seconds=0.5)


@pytest.mark.parametrize("validation_loss", [None, 0.125])
def test_a_record_survives_json(validation_loss: float | None) -> None:
    record = EpochRecord(2, 40, {"loss": 1.5, "kl": 0.25}, validation_loss, 3e-3, 0.1)
    assert EpochRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_fields_of_a_later_version_are_ignored_and_missing_ones_are_not() -> None:
    stored = RECORD.to_json()
    assert EpochRecord.from_json(stored | {"temperature": 1}) == RECORD
    del stored["terms"]
    with pytest.raises(KeyError, match="terms"):
        EpochRecord.from_json(stored)
