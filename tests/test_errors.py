import inspect
import pickle

import numpy as np
import pytest

import insphere
from insphere import errors
from insphere.data.plates import write_plates
from insphere.errors import InsphereError, did_you_mean

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, InsphereError) and kind is not InsphereError]


@pytest.mark.parametrize(
    ("error", "built_in"),
    [
        (errors.ParameterError, ValueError),
        (errors.DataError, ValueError),
        (errors.DatasetNotFoundError, FileNotFoundError),
        (errors.ModelFileError, ValueError),
        (errors.MissingDependencyError, ImportError),
        (errors.TrainingError, RuntimeError),
        (errors.CollapseError, RuntimeError),
    ],
)
def test_callers_who_know_no_insphere_catch_the_built_in(error: type[Exception], built_in: type[Exception]) -> None:
    assert error in ERRORS
    with pytest.raises(built_in, match="what and why"):
        raise error("what and why")


@pytest.mark.parametrize("error", ERRORS)
def test_message_survives_a_trip_between_processes(error: type[Exception]) -> None:
    copy = pickle.loads(pickle.dumps(error("what and why")))
    assert type(copy) is error
    assert str(copy) == "what and why"


def test_health_warning_is_no_error() -> None:
    assert issubclass(errors.HealthWarning, UserWarning)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eucldean", " Did you mean 'euclidean'?"),
        ("EUCLIDEAN", " Did you mean 'euclidean'?"),
        ("adamw", " Did you mean 'AdamW'?"),
        ("", ""),
        ("xyz", ""),
    ],
)
def test_did_you_mean(name: str, expected: str) -> None:
    assert did_you_mean(name, ["euclidean", "mahalanobis", "AdamW"]) == expected


def test_did_you_mean_of_nothing() -> None:
    assert did_you_mean("x", []) == ""
    assert did_you_mean("euclidean", iter(["euclidian"])) == " Did you mean 'euclidian'?"


def test_warnings_point_at_the_line_that_called_us(tmp_path):
    photos = write_plates(tmp_path, n_train=12, n_good=0, n_each=1, image_size=(96, 128), seed=0)
    with pytest.warns() as caught:
        insphere.fit(photos, random_state=0, backbone="scratch")
        insphere.KNN(random_state=0).fit(np.zeros((9, 2)) + np.arange(9)[:, None], np.arange(9) * 7)
    told = {warning.category.__name__ for warning in caught}
    assert {"SourceNotice", "HealthWarning", "DataNotice"} <= told
    assert {warning.filename for warning in caught} == {__file__}
