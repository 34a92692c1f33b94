"""What the service answers, as the OpenAPI document describes it: one class for each JSON object."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorAnswer(_Answer):
    """What every refusal looks like."""

    error: str = Field(description="What is wrong, and what to do.")


class Live(_Answer):
    """The process answers."""

    live: bool


class Counts(_Answer):
    """How many models are in each state."""

    ready: int = Field(description="They score.")
    unsound: int = Field(description="Their health forbids to ask them.")
    loading: int = Field(description="Their files are being tried; no earlier one answers under their name and version.")
    refused: int = Field(description="Their files were refused; the log says why.")


class Ready(_Answer):
    """Whether every model scores: none is unsound, and those there at the start have been loaded or refused."""

    ready: bool
    models: Counts


class ModelReady(_Answer):
    """Whether a model scores."""

    name: str
    ready: bool


class ServerMetadata(_Answer):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(_Answer):
    """Name, datatype and shape of a tensor; -1 stands for the number of rows."""

    name: str
    datatype: Literal["UINT8", "FP32", "FP64", "BOOL"]
    shape: list[int]


class ModelMetadata(_Answer):
    """Tensors that a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(_Answer):
    """One output: a value for each row."""

    name: Literal["anomaly_score", "p_value", "is_anomaly"]
    datatype: Literal["FP64", "BOOL"]
    shape: list[int]
    data: list[float | bool | None]


class InferAnswer(_Answer):
    """Scores of a tensor's rows, in order."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[OutputTensor]


class Rate(_Answer):
    """A rate in [0, 1] with its 95 % range."""

    value: float
    low: float
    high: float


class Decision(_Answer):
    """Rows that score above `threshold` are flagged; by "conformal", at most the share `promised_fpr` of normal rows is."""

    by: Literal["conformal", "radius"]
    method: Literal["split", "cross", "given"]
    threshold: float
    target_fpr: float = Field(description="Share of normal rows that was asked for.")
    promised_fpr: float | None = Field(description="Share that is promised: more than the target where calibration rows are few.")
    expected: Rate | None = Field(description="Share of normal rows to expect among the flagged.")
    n_calibration: int = Field(description="Independent normal rows that the threshold comes from.")


class Result(_Answer):
    """Score of one row, or why it has none."""

    name: str | None = Field(description="File name that the upload came with.")
    anomaly_score: float | None = Field(description="Higher = more anomalous.")
    p_value: float | None = Field(description="Share of normal rows expected to score at least as high.")
    is_anomaly: bool | None
    adjusted_p_value: float | None = Field(default=None, description="Smallest false-discovery rate at which the row is a discovery.")
    is_discovery: bool | None = Field(default=None, description="Whether it is one at the rate asked for.")
    error: str | None = Field(description="Why the row has no score.")
    heatmap: str | None = Field(default=None, description="PNG as a data URI.")


class Told(_Answer):
    """What of a request was not looked at."""

    count: int = Field(description="Images or fields that it is about.")
    text: str


class DiscoveryRate(_Answer):
    """Of the rows called discoveries, at most the share `rate` is normal, on average over requests."""

    rate: float
    n_discoveries: int
    n_least: int = Field(description="Rows that must score above all calibration rows before one of them can be a discovery.")


class ScoreAnswer(_Answer):
    """One result for each row, in order."""

    model: str
    version: str
    decision: Decision
    fdr: DiscoveryRate | None = Field(default=None, description="Where a false-discovery rate is asked for.")
    n_rows: int
    n_anomalies: int
    n_errors: int
    results: list[Result]
    notices: list[Told] = Field(description="What was not looked at: other fields of the form, further pages, colours, bits.")
    heatmap_problem: str | None = Field(default=None, description="Why there are no heat-maps.")


class ModelInput(_Answer):
    """What a model takes."""

    kind: Literal["image", "vector"]
    shape: list[int] = Field(description="(height, width, channels) or (features).")
    datatype: Literal["UINT8", "FP32", "FP64"]
    feature_names: list[str] | None
    files: bool = Field(description="Whether image files can be uploaded.")


class ServedModelAnswer(_Answer):
    """One model."""

    name: str
    version: str
    ready: bool
    problem: str | None = Field(description="Why it does not score.")
    detector: str
    input: ModelInput
    decision: Decision
    health: Literal["ok", "warning", "critical"]
    created: str


class WaitingModel(_Answer):
    """A model file that has not become a model."""

    name: str
    version: str
    state: Literal["loading", "refused"] = Field(description="Where it is refused, the log says why.")


class Models(_Answer):
    """All models, and the files in served folders that are none yet."""

    models: list[ServedModelAnswer]
    waiting: list[WaitingModel]


ANSWERS = (ErrorAnswer, Live, Ready, ModelReady, ServerMetadata, ModelMetadata, InferAnswer, ScoreAnswer, Models)
"""All answers; those that they are made of come with them."""
