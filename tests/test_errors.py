import inspect
import pickle

import pytest

from insphere import errors
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
