"""What people said of rows: which of these may enter the calibration, and what is refused."""

import json

import numpy as np
import pytest

import insphere
from insphere.cli import main
from insphere.decision.verdicts import Verdict, VerdictJournal, answered_in_order, are_drawn, check_draw, draw_number, row_id
from insphere.detectors.classical import KNN
from insphere.errors import DataError
from insphere.verdict_files import read_verdicts

pytestmark = pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")


def verdict(number, word="normal", *, drawn=True, flagged=False, score=1.0, **more):
    return Verdict(row_id(number), word, score, flagged, drawn, **more)


@pytest.fixture
def fitted():
    return KNN(random_state=0).fit(np.random.default_rng(0).normal(size=(400, 3)))


def test_rows_are_drawn_by_their_content_alone_and_in_the_share_asked_for():
    hashes = np.random.default_rng(0).integers(0, 2**63, 20_000).astype(np.uint64)
    drawn = are_drawn(hashes, "key", 0.1)
    assert abs(drawn.mean() - 0.1) < 4 * (0.1 * 0.9 / 20_000) ** 0.5
    assert (are_drawn(hashes[::-1], "key", 0.1)[::-1] == drawn).all()
    assert (are_drawn(hashes, "another", 0.1) != drawn).any()
    assert are_drawn(hashes, "key", 0.05)[~drawn].sum() == 0  # a smaller share is a part of a larger one


def test_only_drawn_normal_rows_enter(fitted):
    said = [
        verdict(1, "normal", score=0.5),
        verdict(2, "false alarm", flagged=True, score=9.0),
        verdict(3, "false alarm", drawn=False, flagged=True, score=10.0),
        verdict(4, "real", flagged=True, score=11.0),
        verdict(5, "missed", score=0.4),
        verdict(6, "unsure", score=0.7),
    ]
    before = fitted.decision_
    fitted.take_verdicts(said)
    assert fitted.decision_ is before
    fitted.recalibrate_by_verdicts()
    added = set(fitted.conformal_.scores.tolist()) - set(before.calibration.scores.tolist())
    assert added == {0.5, 9.0, 0.7}
    assert fitted.decision_.history[-1]["to"] == len(before) + 3
    with pytest.raises(DataError, match="Verdicts on flagged rows alone would break the promise"):
        fitted.recalibrate_by_verdicts()


def test_they_may_take_the_place_of_what_is_there(fitted):
    fitted.take_verdicts([verdict(number, score=float(number)) for number in range(30)]).recalibrate_by_verdicts()
    fitted.take_verdicts([verdict(99, score=99.0)]).recalibrate_by_verdicts(only=True)
    assert fitted.conformal_.scores.tolist() == [*map(float, range(30)), 99.0]


def test_the_journal_is_in_the_model_file(fitted, tmp_path):
    fitted.take_verdicts([verdict(1, category=None, at="2026-01-01T00:00:00+00:00"), verdict(2, "real", flagged=True)])
    fitted.save(tmp_path / "m.insphere")
    again = insphere.load(tmp_path / "m.insphere")
    assert again.verdicts_ == fitted.verdicts_
    again.recalibrate_by_verdicts().save(tmp_path / "n.insphere")
    assert insphere.load(tmp_path / "n.insphere").verdicts_.waiting == ()


def test_a_later_verdict_on_a_row_takes_the_place_of_the_first_unless_it_is_used():
    journal = VerdictJournal().with_verdicts([verdict(1), verdict(1, "missed")])
    assert [entry.verdict for entry in journal.entries] == ["missed"]
    used = VerdictJournal().with_verdicts([verdict(1)]).all_used().with_verdicts([verdict(1, "missed")])
    assert [entry.verdict for entry in used.entries] == ["normal"]


@pytest.mark.parametrize(
    ("word", "flagged", "match"),
    [("flase alarm", True, "Did you mean"), ("missed", True, "can't be 'missed'"), ("false alarm", False, "can't be 'false alarm'")],
)
def test_words_that_are_no_verdict_are_refused(word, flagged, match):
    with pytest.raises(DataError, match=match):
        verdict(1, word, flagged=flagged)


def test_a_drawn_row_after_one_without_a_verdict_waits():
    assert answered_in_order([(True, "normal"), (False, None), (True, "real"), (True, None), (True, "normal")]) == [
        *(True, False, True, False, False)
    ]


def test_a_draw_that_was_changed_is_found():
    names = sorted((row_id(number) for number in range(50)), key=lambda name: draw_number(name, "key"))
    check_draw([(name, place < 5) for place, name in enumerate(names)], "key")
    with pytest.raises(DataError, match="not that of a draw by this model"):
        check_draw([(name, place < 5 or place == 30) for place, name in enumerate(names)], "key")
    with pytest.raises(DataError, match="not that of a draw by this model"):
        check_draw([(name, place < 5) for place, name in enumerate(names)], "another key")


def test_rates_say_what_they_are_of(fitted):
    said = [verdict(n, score=0.1 * n) for n in range(8)] + [verdict(8, "missed", score=0.2), verdict(9, "real", flagged=True, score=9.0)]
    said.append(verdict(10, "false alarm", drawn=False, flagged=True, score=8.0))
    summary = VerdictJournal().with_verdicts(said).summary(fitted.decision_)
    assert summary["anomaly_share"]["value"] == 0.2
    assert summary["found_share"]["value"] == 0.5
    assert summary["false_alarm_share"]["value"] == 0.5
    assert (summary["n_drawn"], summary["n_waiting"]) == (10, 8)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_from_scores_to_verdicts_and_into_the_model(fitted, tmp_path, suffix):
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    model, scores, filled = tmp_path / "m.insphere", tmp_path / f"s.{suffix}", tmp_path / f"v.{suffix}"
    fitted.save(model)
    np.save(tmp_path / "new.npy", np.random.default_rng(1).normal(size=(300, 3)))
    assert main(["score", str(model), str(tmp_path / "new.npy"), "-o", str(scores), "--draw", "0.2"]) == 0
    if suffix == "csv":
        with scores.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(scores).to_pylist() if suffix == "parquet" else [json.loads(line) for line in scores.read_text().splitlines()]
    drawn = [row for row in rows if str(row["drawn"]).lower() == "true"]
    assert 30 < len(drawn) < 90
    for row in drawn[:-2]:
        row["verdict"] = "false alarm" if str(row["is_anomaly"]).lower() == "true" else "normal"
    if suffix == "csv":
        with filled.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), filled)
    else:
        filled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, n_waiting = read_verdicts(filled, fitted.draw_key)
    assert (len(found), n_waiting) == (len(drawn) - 2, 2)
    assert main(["feedback", str(model), str(filled), "--recalibrate", "add"]) == 0
    assert len(insphere.load(model).decision_) == len(fitted.decision_) + len(drawn) - 2


def test_files_without_verdicts_are_refused_with_the_remedy(tmp_path):
    empty = tmp_path / "v.csv"
    empty.write_text("row,anomaly_score\n0,1.0\n")
    with pytest.raises(DataError, match="no column 'row_id'; write the scores with `insphere score --draw"):
        read_verdicts(empty, "key")
    with pytest.raises(DataError, match=r"must end in .csv"):
        read_verdicts(tmp_path / "v.txt", "key")


@pytest.mark.parametrize(
    "made",
    [
        lambda: KNN(random_state=np.random.default_rng(3), calibration={"method": "cross", "n_folds": 3}),
        lambda: insphere.DeepSVDDVAE(epochs=1, random_state=0, training={"batch_size": 64}),
    ],
)
def test_a_fit_is_known_again_after_it_was_saved_and_recalibrated(made, tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 3))
    detector = made().fit(X)
    key = detector.fit_key
    detector.save(tmp_path / "m.insphere")
    again = insphere.load(tmp_path / "m.insphere")
    assert again.fit_key == key
    assert again.recalibrate(X[:100] + 0.1, target_fpr=0.1).fit_key == key
    assert again.set_params(target_fpr=0.2).fit_key == key
