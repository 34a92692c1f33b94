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
    is_alarm: bool | None = Field(default=None, description="Whether the row raises an alarm, where the service raises some.")
    row_id: str | None = Field(default=None, description="What the row is known by, where people look at rows; none if fit was given it.")
    drawn: bool | None = Field(default=None, description="Whether it is drawn for a look, whatever it scores.")
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


class AlarmRate(_Answer):
    """Of the alarms in a window of rows at most the share `fdr` is false, on average over windows."""

    fdr: float
    window: int = Field(description="Rows of a window.")
    n_rows: int = Field(description="Rows of this window so far.")
    n_alarms: int
    promise: str


class Drift(_Answer):
    """Whether scores still look like those of the held-out normal rows."""

    drifted: bool
    direction: Literal["higher", "lower", "same on average"] | None
    advice: str | None = Field(description="What the alarm promises, and what to do.")


class ScoreAnswer(_Answer):
    """One result for each row, in order."""

    model: str
    version: str
    decision: Decision
    fdr: DiscoveryRate | None = Field(default=None, description="Where a false-discovery rate is asked for.")
    alarms: AlarmRate | None = Field(default=None, description="Where the service raises alarms (--fdr).")
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
    drift: Drift
    alarms: AlarmRate | None = Field(description="Where the service raises alarms (--fdr).")
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
    feedback: bool = Field(description="Whether people look at rows: the page is /feedback.")


class Share(_Answer):
    """A share in [0, 1] with its 95 % range; none where there is nothing to count."""

    value: float | None
    low: float | None
    high: float | None


class Summary(_Answer):
    """What verdicts say: those in the model file and those that wait in the service's file."""

    n_verdicts: int
    by_verdict: dict[str, int]
    n_drawn: int = Field(description="Verdicts on drawn rows.")
    n_waiting: int = Field(description="Drawn normal rows that may enter the calibration, and are not in it yet.")
    false_alarm_share: Share = Field(description="Of the flagged rows that were looked at.")
    anomaly_share: Share = Field(description="Of the drawn rows, so of all.")
    found_share: Share = Field(description="Of the anomalies among the drawn rows, those that were flagged.")
    expected: Rate | None = Field(description="Share of normal rows to expect among the flagged, now.")
    expected_with_waiting: Rate | None = Field(description="The same with the rows that wait in the calibration.")


class Value(_Answer):
    """One value of a row of numbers."""

    name: str
    value: float | None


class QueuedRow(_Answer):
    """A row that waits for a verdict."""

    row_id: str
    drawn: bool = Field(description="Drawn whatever it scores: judge it before you look at its score.")
    category: str | None
    anomaly_score: float
    p_value: float
    is_anomaly: bool
    name: str | None = Field(description="File name that the upload came with.")
    scored_at: str
    image: str | None = Field(description="PNG as a data URI.")
    heatmap: str | None = Field(description="Where it is anomalous, as a data URI, by models that say so; none for drawn rows.")
    values: list[Value] | None


class _Told(_Answer):
    model: str
    version: str
    share: float = Field(description="Share of all rows that is drawn.")
    summary: Summary
    n_drawn_unanswered: int
    n_drawn_held: int = Field(description="Drawn rows with a verdict that come after one without: they wait for it.")
    n_others_unanswered: int
    is_full: bool = Field(description="Whether the model has as many rows as it may keep, so that no more are drawn.")


class FeedbackAnswer(_Told):
    """What verdicts say, and the next rows to look at: drawn ones in the order scored, then the most uncertain."""

    queue: list[QueuedRow]


class Said(_Answer):
    """What became of a verdict."""

    row_id: str
    verdict: str | None
    error: str | None = Field(description="Why it is not noted.")
    replaced: str | None = Field(description="The other verdict on the row, said before, that it took the place of.")


class SaidAnswer(_Told):
    """What became of each verdict, and what all of them say now."""

    n_errors: int
    n_replaced: int
    results: list[Said]


ANSWERS = (
    *(ErrorAnswer, Live, Ready, ModelReady, ServerMetadata, ModelMetadata, InferAnswer, ScoreAnswer, Models),
    *(FeedbackAnswer, SaidAnswer),
)
"""All answers; those that they are made of come with them."""
