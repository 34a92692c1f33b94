"""Arguments and options that several commands share, with the words that explain them."""

from pathlib import Path
from typing import Annotated

import typer

_TABLES = "Tables (CSV, Parquet)"
_IMAGES = "Images"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="A folder or .zip of images, a pattern in quotes ('photos/*.png'), one image, a table (.csv, .parquet), an array (.npy, .npz),"
        " or a named data set with its normal class (digits:3; see insphere datasets).",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", show_default=False, help="A model file that insphere fit wrote.")]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        metavar="KEY",
        envvar="INSPHERE_REQUIRE_SIGNATURE",
        show_default=False,
        help="Open no model that is not signed with this key (a public one, PEM); see insphere sign.",
    ),
]
Scorer = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", show_default=False, help="A model file that insphere fit wrote, or a graph (.onnx) that insphere export wrote."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        show_default=False,
        help="Where named data sets are looked for before they are downloaded. Default: the environment variable INSPHERE_DATA.",
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="N|HxW",
        show_default=False,
        rich_help_panel=_IMAGES,
        help="Bring every image to N×N or H×W pixels. Default: the images' own (or median) size, the longer side at most 64.",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="auto|grey|rgb",
        show_default=False,
        rich_help_panel=_IMAGES,
        help="Read images as grey or colour. Default: grey if all of them are.",
    ),
]
JpegDraft = Annotated[
    bool | None,
    typer.Option(
        "--jpeg-draft",
        show_default=False,
        rich_help_panel=_IMAGES,
        help="Decode large JPEG photos at a fraction of their size, which is faster. Kept in the model: it then scores files so too.",
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label-column", metavar="NAME", show_default=False, rich_help_panel=_TABLES, help="Column that says which rows are anomalies."
    ),
]
NormalLabel = Annotated[
    str | None,
    typer.Option(
        "--normal-label",
        metavar="VALUE",
        show_default=False,
        rich_help_panel=_TABLES,
        help="Value of the label column that means normal; all others are anomalies. Not needed for 0 and 1.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns", metavar="A,B,…", show_default=False, rich_help_panel=_TABLES, help="Columns to use. Default: all but the label."
    ),
]
OneHotColumns = Annotated[
    str | None,
    typer.Option(
        "--one-hot",
        metavar="A,B,…",
        show_default=False,
        rich_help_panel=_TABLES,
        help="Columns of words (or of numbers that only name kinds): each value becomes a feature that is 1 where a row has it, else 0.",
    ),
]
GroupsBy = Annotated[
    str | None,
    typer.Option(
        "--groups-by",
        metavar="REGEX|folder",
        show_default=False,
        rich_help_panel=_IMAGES,
        help="Finds in an image's path the group of near-duplicates that it belongs to ('(?P<group>[^_]+)_'); folder: its folder.",
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        show_default=False,
        rich_help_panel=_TABLES,
        help="Whether the first line of a CSV file has the names of the columns. Default: found by a rule, and told where in doubt.",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        "--channels",
        metavar="first|last",
        show_default=False,
        rich_help_panel=_IMAGES,
        help="Where the channels of an array of images are: (n, channels, height, width) is first. Default: last; the other is refused.",
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        metavar="NAME",
        show_default=False,
        rich_help_panel=_TABLES,
        help="Column whose equal values mark near-duplicates (frames of one film); a group is trained on or held out as a whole.",
    ),
]

_CATEGORIES = "Cameras, products, shifts: a threshold for each"

Category = Annotated[
    str | None,
    typer.Option(
        "--category",
        metavar="NAME",
        show_default=False,
        rich_help_panel=_CATEGORIES,
        help="Column of a table that says which camera, product or shift a row is from; each is calibrated by itself. Not --groups, whose"
        " rows depend on each other.",
    ),
]
CategoryBy = Annotated[
    str | None,
    typer.Option(
        "--category-by",
        metavar="REGEX|folder",
        show_default=False,
        rich_help_panel=_CATEGORIES,
        help="Finds it in an image's path ('(?P<category>cam[0-9]+)'); folder: the nearest folder whose name does not mean normal, defect,"
        " training or test. A model remembers both options.",
    ),
]
