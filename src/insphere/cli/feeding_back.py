"""``insphere feedback``: what people said of scored rows, into the model file and, where it may, into the calibration."""

from pathlib import Path
from typing import Annotated, Any

import typer

from insphere.cli import console, options, presenting


def feedback(
    model: options.Model,
    verdicts: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="The scores of insphere score --draw with the column verdict filled in, or the .sqlite file of insphere serve --feedback.",
        ),
    ],
    recalibrate: Annotated[
        str | None,
        typer.Option(
            "--recalibrate",
            metavar="add|only",
            show_default=False,
            help="Let the drawn rows that are normal enter the calibration: beside the scores that are there (add), or in their place, as"
            " after a change of the line (only). Without it the verdicts are noted, and the threshold stays.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="MODEL", show_default=False, help="File to write. Default: MODEL itself.")
    ] = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Tell a model what people found: normal, false alarm, real, missed, or unsure.

    insphere score MODEL SOURCE -o scores.csv --draw 0.02 draws one row in fifty, whatever it scores. Look at those with drawn = true, in
    order and all of them, and at the flagged ones if you like; write a word into verdict. Only drawn rows enter the calibration, because
    only they are a fair sample of normal rows: flagged ones alone would raise the threshold until it finds nothing. The others are kept,
    and say what share of alarms is real. A drawn row after one without a verdict waits: leaving out the hard ones would be a selection.

    A service with --feedback line.sqlite draws by itself and asks on its page /feedback; of that file the rows of this very fit count. The
    service never writes a model file: run this, and it takes the changed one up. Verdicts that came in before stay; used ones count once.

    For example:
      insphere score line.insphere photos/monday -o monday.csv --draw 0.02
      insphere feedback line.insphere monday.csv --recalibrate add
      insphere feedback line.insphere line.sqlite --recalibrate add
    """
    from insphere.detectors import catalog
    from insphere.output_file import check_writable
    from insphere.validation import check_choice
    from insphere.verdict_files import read_verdicts

    if recalibrate is not None:
        check_choice("recalibrate", recalibrate, ("add", "only"))
    written = model if output is None else output
    check_writable(written)
    detector = catalog.load(model, require_signature=require_signature)
    found, n_waiting = read_verdicts(verdicts, detector.draw_key, detector.fit_key)
    detector.take_verdicts(found)
    summary = detector.verdicts_.summary(detector.decision_)
    if n_waiting:
        console.warn(
            f"{n_waiting} drawn rows have no verdict, or come after one that has none: they wait. Look at all drawn rows, in order."
        )
    if recalibrate is not None:
        detector.recalibrate_by_verdicts(only=recalibrate == "only")
    detector.save(written)
    decision = detector.describe()["decision"]
    if json:
        console.write_json({"output": written, "n_unanswered": n_waiting, **summary, "decision": decision})
        return
    console.results().print(console.facts(str(written), _facts(summary)))
    if recalibrate is not None:
        console.results().print(presenting.decision_history(decision))
    elif summary["n_waiting"]:
        console.say(f"Next: {console.program()} feedback {model} {verdicts} --recalibrate add lets {summary['n_waiting']} drawn rows in.")


def _facts(summary: dict[str, Any]) -> list[tuple[str, object]]:
    counts = ", ".join(f"{n} {word}" for word, n in summary["by_verdict"].items() if n)
    rows: list[tuple[str, object]] = [("verdicts", f"{summary['n_verdicts']}: {counts}; {summary['n_drawn']} on drawn rows")]
    for name, text in (
        ("false_alarm_share", "of the flagged rows that were looked at are false alarms"),
        ("anomaly_share", "of the drawn rows are anomalies"),
        ("found_share", "of the anomalies among the drawn rows were flagged"),
    ):
        if summary[name]["value"] is not None:
            rows.append((name.replace("_", " "), f"{_rate(summary[name])} {text}"))
    if summary["expected"] is not None:
        rows.append(("false alarms", f"{_rate(summary['expected'])} of normal rows expected before these"))
        if summary["n_waiting"]:
            rows.append(("", f"{_rate(summary['expected_with_waiting'])} with {summary['n_waiting']} drawn normal rows in the calibration"))
    return rows


def _rate(told: dict[str, float]) -> str:
    return f"{100 * told['value']:.1f} % ({100 * told['low']:.1f}–{100 * told['high']:.1f})"
