"""``insphere demo``: the whole way on images that come along, or are made for it."""

from pathlib import Path
from typing import Annotated

import typer

from insphere.cli import console, options, presenting
from insphere.cli.fitting import fit_detector, tell_what_goes
from insphere.cli.settings import DEFAULT_SEED, gather
from insphere.errors import ParameterError


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write; made if needed.")] = Path("demo"),
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME:CLASS", show_default=False, help="See insphere datasets. Default: digits:3.")
    ] = None,
    photos: Annotated[bool, typer.Option("--photos", help="Find defects in photos of metal plates, which are made for it.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same seed gives the same scores.")] = DEFAULT_SEED,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Show the whole way on images that come along: fit, score, evaluate, a picture.

    Learns handwritten threes, then looks at all ten digits. Writes model.insphere, scores.csv and gallery.png. With --photos it makes
    photos of metal plates, learns the good ones, finds scratches, stains, missing parts and dents in others, and draws them: found.jpg.

    For example:
      insphere demo
      insphere demo --photos
      insphere demo --dataset mnist:8 --output eights
    """
    if photos:
        from insphere.cli.photo_demo import demonstrate_photos

        if dataset is not None or data_dir is not None:
            raise ParameterError("`--photos` makes its own data set; leave out --dataset and --data-dir.")
        demonstrate_photos(output, seed, json=json)
        return
    dataset = dataset or "digits:3"
    from insphere.cli.scoring import check_labelled, measure, scored
    from insphere.gallery import write_gallery
    from insphere.output_file import make_folder
    from insphere.scores_file import write_scores

    folder = make_folder(output)
    files = {"model": folder / "model.insphere", "scores": folder / "scores.csv", "gallery": folder / "gallery.png"}
    tell_what_goes(files["model"])
    fitted, _, seconds = fit_detector(dataset, gather(None, [], {"seed": seed, "data_dir": data_dir}))
    fitted.save(files["model"])
    rows = fitted.open(dataset, split="test", data_dir=data_dir)
    check_labelled(rows)
    with write_scores(files["scores"], ids=rows.ids) as table:
        scores, flagged = scored(fitted, rows, on_batch=table.append)
    evaluation, known = measure(rows, scores, flagged)
    facts = rows.facts.take(known)
    write_gallery(
        files["gallery"],
        rows.load().X,
        scores[known],
        threshold=fitted.threshold_,
        labels=facts.labels,
        types=facts.types,
        title=f"{dataset} · {fitted.name} · seed {seed}   (green: normal, red: anomaly; below each its class and score)",
    )
    if json:
        console.write_json({"dataset": dataset, "seed": seed, "seconds": seconds, "files": files, **evaluation.to_json()})
    else:
        console.results().print(presenting.demo_facts(dataset, fitted.describe(), evaluation, files, seconds=seconds))
        console.results().print(presenting.next_steps())
