"""Are the masks of defects fit to measure heat-maps with."""

from insphere.checking.findings import DataFinding, first_names, listed
from insphere.data import AbstractSource, ImageSource
from insphere.errors import DataError

_NAME = "masks"
_MOST_MARKED = 0.5  # share of a picture beyond which black and white may have been taken for each other


def check_masks(source: AbstractSource) -> DataFinding | None:
    """Return what is wrong with the masks of a source, None where it has none; every mask is read once."""
    if not isinstance(source, ImageSource) or not source.n_masks or source.facts.masks is None:
        return None
    named = [(row, name) for row, name in enumerate(source.facts.masks) if name is not None]
    unusable, empty, full = {}, [], []
    with source.opened_masks() as mask_of:
        for row, name in named:
            try:
                mask = mask_of(row)
            except DataError as error:
                unusable[name] = str(error)
                continue
            share = 0.0 if mask is None else float(mask.mean())
            if not share:
                empty.append(name)
            elif share > _MOST_MARKED:
                full.append(name)
    troubles = [
        (list(unusable), f"Masks that cannot be used: {len(unusable)}. The first: {next(iter(unusable.values()), '')}"),
        (empty, f"Masks that mark nothing: {len(empty)} ({first_names(empty)}): their pictures are left out of the figures of places."),
        (full, f"Masks that mark more than half of their picture: {len(full)} ({first_names(full)}): white is defective, not black."),
    ]
    found = [(names, text) for names, text in troubles if names]
    if found:
        names = [name for own, _ in found for name in own]
        return DataFinding(_NAME, "warning", " ".join(text for _, text in found), len(names), listed([[name] for name in names]))
    return _about(source, len(named))


def _about(source: ImageSource, n_masks: int) -> DataFinding:
    masks, labels = source.facts.masks or (), source.labels
    without = [row for row, mask in enumerate(masks) if mask is None and labels is not None and labels[row] == 1]
    text = f"Masks of the size of their pictures: {n_masks}."
    if not without:
        return DataFinding(_NAME, "ok", text)
    names = [str(row) if source.ids is None else source.ids[row] for row in without]
    text += f" Anomalies without one: {len(names)} ({first_names(names)}); heat-maps are not measured on them."
    return DataFinding(_NAME, "note", text, len(names), listed([[name] for name in names]))
