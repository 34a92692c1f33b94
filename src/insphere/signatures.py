"""Signatures of model files: who made a file, and that it is still the one that was signed; keys are files, and nothing needs a network.

The format is that of OpenSSF Model Signing: a Sigstore bundle (DSSE envelope, in-toto statement) in a file beside the model, written and
checked by the library `model-signing`, whose own command line reads it too.
"""

import base64
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from insphere.errors import MissingDependencyError, ModelFileError, ParameterError
from insphere.output_file import OutputError, replacing

SUFFIX = ".sig"
"""What the name of a signature adds to that of its model."""

ENVIRONMENT = "INSPHERE_REQUIRE_SIGNATURE"
"""Environment variable that names the public key without whose signature no model is opened."""

PASSWORD = "INSPHERE_KEY_PASSWORD"
"""Environment variable with the password of an encrypted private key."""

_MAX_SIGNATURE_BYTES = 1_000_000


class SignatureError(ModelFileError):
    """A model file has no signature, or one that does not belong to it or to the key."""


def signature_path(path: str | os.PathLike[str]) -> Path:
    """Return where the signature of a file is.

    Examples
    --------
    >>> signature_path("tiles.insphere").name
    'tiles.insphere.sig'
    """
    path = Path(path)
    return path.with_name(path.name + SUFFIX)


def required_key(key: str | os.PathLike[str] | None) -> Path | None:
    """Return the public key that files must be signed with: `key`, else that of the environment variable; None if neither names one."""
    named = os.environ.get(ENVIRONMENT) if key is None else os.fspath(key)
    return Path(named) if named else None


def sign(path: str | os.PathLike[str], private_key: str | os.PathLike[str]) -> Path:
    """Write the signature of a file beside it and return its path.

    Parameters
    ----------
    path : path-like
    private_key : path-like
        PEM file with a private key on one of the curves P-256, P-384 and P-521. The environment variable ``INSPHERE_KEY_PASSWORD`` has
        its password, if it has one.

    Raises
    ------
    ModelFileError
        If the file cannot be read.
    ParameterError
        If the key cannot be used.
    OutputError
        If the signature cannot be written.
    MissingDependencyError
        If the extra `sign` is not installed.
    """
    signing = _library("signing")
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path} is not a file; name the file to sign.")
    password: Any = os.environ.get(PASSWORD, "").encode() or None
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=Path(private_key), password=password)
    # Not a key, of another kind, encrypted, not readable: of many exception types.
    except Exception as error:
        raise ParameterError(
            f"The private key {private_key} cannot be used ({_why(error)}). Make one with: openssl ecparam -name prime256v1 -genkey -noout"
            f" -out key.pem. The password of an encrypted one goes into {PASSWORD}."
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "signature")
        try:
            config.sign(path.resolve(), written)
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror or error}.") from error
        with replacing(signature_path(path)) as handle:
            handle.write(written.read_bytes())
    return signature_path(path)


def check(data: bytes, path: str | os.PathLike[str], public_key: str | os.PathLike[str]) -> None:
    """Check that `data`, what has been read from the file at `path`, was signed with the private half of a key.

    Parameters
    ----------
    data : bytes
        All of the file. It is these bytes that are checked, and not what the file may hold by then.
    path : path-like
        Beside it lies its signature; see `signature_path`.
    public_key : path-like
        PEM file.

    Raises
    ------
    SignatureError
        If there is no signature, or it is another file's, another key's, or none at all.
    ParameterError
        If the key cannot be used.
    MissingDependencyError
        If the extra `sign` is not installed.
    """
    verifying = _library("verifying")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=Path(public_key))
    except Exception as error:
        raise ParameterError(
            f"The public key {public_key} cannot be used ({_why(error)}). Write it with: openssl ec -in key.pem -pubout -out key.pub."
        ) from error
    beside = signature_path(path)
    refused = f"{os.fspath(path)} is refused: a signature with the key {public_key} is required, and"
    try:
        with beside.open("rb") as file:
            signature = file.read(_MAX_SIGNATURE_BYTES)
    except OSError as error:
        remedy = f"get it from whoever made the model, or sign it: insphere sign {os.fspath(path)} --key KEY"
        raise SignatureError(f"{refused} {beside} cannot be read ({error.strerror or error}); {remedy}.") from error
    with tempfile.TemporaryDirectory() as folder:
        # Copies that nobody else changes: what is verified is what is compared below.
        copy, copied_signature = Path(folder, "model"), Path(folder, "signature")
        try:
            copy.write_bytes(data)
        except OSError as error:
            raise OutputError(f"Cannot write {copy}: {error.strerror or error}. Checking a signature needs room for a copy.") from error
        copied_signature.write_bytes(signature)
        try:
            config.verify(copy, copied_signature)
            signed = _signed_digest(signature)
        # Whatever a signature made by somebody else does to its reader.
        except Exception as error:
            raise SignatureError(f"{refused} that in {beside} is not one of this file with this key ({_why(error)}).") from error
    if signed != hashlib.sha256(data).hexdigest():
        raise SignatureError(f"{refused} that in {beside} is not one of this file.")


def check_file(path: str | os.PathLike[str], public_key: str | os.PathLike[str]) -> bytes:
    """Return the content of a file after `check`.

    Raises
    ------
    ModelFileError
        If it cannot be read; else as `check`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{os.fspath(path)} cannot be read: {error.strerror or error}; check the path.") from error
    check(data, path, public_key)
    return data


def _signed_digest(signature: bytes) -> str:
    """Return the SHA-256 of the only file that a signature covers; its own validity has been checked before."""
    payload = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    (resource,) = payload["predicate"]["resources"]
    if (resource["name"], resource["algorithm"]) != (".", "sha256"):
        raise ValueError("it covers a folder, or has another kind of digest")
    return str(resource["digest"])


def _library(part: str) -> Any:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        raise MissingDependencyError("Signatures need one package more; install it with: pip install 'insphere[sign]'") from error
    return {"signing": signing, "verifying": verifying}[part]


def _why(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
