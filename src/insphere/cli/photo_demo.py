"""``insphere demo --photos``: defects found, and drawn, in photos that the program makes itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from insphere.cli import console, presenting
from insphere.cli.fitting import fit_detector, tell_what_goes
from insphere.cli.settings import gather

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from insphere.data import ImageSource
    from insphere.decision.scored import ScoredRows
    from insphere.detectors.base import AbstractDetector

DETECTOR = "photo"

_LEGEND = (
    "Of each kind the photo with the middle score. Below: its heat-map; cyan: where it exceeds what normal photos show; dashed white: the"
    " defect's mask, which took no part."
)


def demonstrate_photos(output: Path, seed: int, *, json: bool) -> None:
    """Make photos, learn from the good ones, judge the others, and write model, scores and a picture of what was found."""
    from insphere.cli.scoring import measure, scored, tell_of_places
    from insphere.data.plates import plate_names, write_plates
    from insphere.localising import localiser_for
    from insphere.output_file import make_folder
    from insphere.scores_file import write_scores

    _check_weights()  # before the photos are made, which takes seconds
    folder = make_folder(output)
    files = {"model": folder / "model.insphere", "scores": folder / "scores.csv", "picture": folder / "found.jpg"}
    tell_what_goes(files["model"])
    console.say(f"making {len(plate_names())} photos of metal plates, some with defects")
    photos = write_plates(folder / "photos", seed=seed)
    fitted, _, seconds = fit_detector(str(photos), gather(None, [], {"detector": DETECTOR, "seed": seed}))
    fitted.save(files["model"])
    rows: Any = fitted.open(str(photos), split="test")
    localiser, seen = localiser_for(rows), _Seen()
    with write_scores(files["scores"], ids=rows.ids) as table:

        def take(batch: "ScoredRows") -> None:
            table.append(batch)
            seen.add(batch)
            if localiser is not None:
                localiser.add(batch)

        scores, flagged = scored(fitted, rows, on_batch=take, maps=True)
    evaluation, _ = measure(rows, scores, flagged)
    _draw(files["picture"], rows, scores, flagged, seen, fitted)
    found = None if localiser is None else localiser.result()
    tell_of_places(fitted, found, has_masks=localiser is not None)
    places = None if found is None else found.figures
    files["photos"] = photos
    if json:
        facts = {"source": photos, "seed": seed, "seconds": seconds, "files": files}
        console.write_json({**facts, **evaluation.to_json(), "localisation": None if places is None else places.to_json()})
    else:
        console.results().print(presenting.photo_demo_facts(fitted.describe(), evaluation, places, files, seconds=seconds))
        console.results().print(presenting.next_steps())


class _Seen:
    """Heat-map and p-value of each scored row, by its position."""

    def __init__(self) -> None:
        self.maps: dict[int, NDArray[np.float32]] = {}
        self.p_values: dict[int, float] = {}

    def add(self, batch: "ScoredRows") -> None:
        """Keep those of some rows."""
        self.p_values |= dict(zip(batch.index.tolist(), batch.p_value.tolist(), strict=True))
        if batch.maps is not None:
            self.maps |= dict(zip(batch.index.tolist(), batch.maps, strict=True))


def _check_weights() -> None:
    """Raise `MissingDependencyError` if the detector's network has no weights here."""
    from insphere.detectors import catalog
    from insphere.nets.backbones import published_weights

    published_weights(catalog.make(DETECTOR, {}).get_params()["backbone"])


def _draw(
    path: Path,
    rows: "ImageSource",
    scores: "NDArray[np.float64]",
    flagged: "NDArray[np.bool_]",
    seen: _Seen,
    detector: "AbstractDetector",
) -> None:
    """Write the picture: of each kind the photo whose score is in the middle, so that nobody has picked the best."""
    from insphere.data.plates import PLATE_DEFECTS
    from insphere.explain.found import FoundPanel, write_found
    from insphere.explain.maps import opened_pictures

    panels: list[FoundPanel] = []
    with opened_pictures(rows) as picture_of, rows.opened_masks() as mask_of:
        for kind in (*PLATE_DEFECTS, "good"):
            of_kind = [row for row, name in enumerate(rows.types or ()) if name == kind and row in seen.maps]
            row = sorted(of_kind, key=lambda position: float(scores[position]))[len(of_kind) // 2]
            outcome = {(True, True): "found", (True, False): "missed", (False, True): "false alarm", (False, False): "passed"}
            caption = f"{outcome[kind != 'good', bool(flagged[row])]}, p-value {seen.p_values[row]:.2g}"
            panels.append(FoundPanel(picture_of(row), seen.maps[row], mask_of(row), kind, caption))
    write_found(path, panels, legend=_LEGEND)
