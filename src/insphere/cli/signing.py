"""``insphere sign``: a signature beside a model file."""

from pathlib import Path
from typing import Annotated

import typer

from insphere.cli import console, options


def sign(
    model: Annotated[
        Path,
        typer.Argument(metavar="FILE", show_default=False, help="A model file that insphere fit wrote, or a graph of insphere export."),
    ],
    key: Annotated[
        Path, typer.Option("--key", metavar="KEY", show_default=False, help="Private key (PEM, on the curve P-256, P-384 or P-521).")
    ],
    json: options.Json = False,
) -> None:
    """Sign a file, so that others can require to open only what you made: FILE.sig, next to it.

    The format is that of OpenSSF Model Signing; keys are files, and no network is needed. Whoever has the public key opens nothing else
    with --require-signature, which every command that opens a model has, or everywhere with the environment variable
    INSPHERE_REQUIRE_SIGNATURE. A file that is changed, by recalibrate too, must be signed again. The password of an encrypted key goes
    into INSPHERE_KEY_PASSWORD.

    For example:
      openssl ecparam -name prime256v1 -genkey -noout -out key.pem && openssl ec -in key.pem -pubout -out key.pub
      insphere sign model.insphere --key key.pem
      insphere score model.insphere photos/new -o scores.csv --require-signature key.pub
    """
    from insphere import signatures

    written = signatures.sign(model, key)
    if json:
        console.write_json({"path": model, "signature": written})
    else:
        console.results().print(console.facts(f"Wrote {written}", [("signs", f"{model}, as it is now")]))
