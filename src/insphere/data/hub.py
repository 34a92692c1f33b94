"""Download of one file from the Hugging Face hub, into its own cache; every failure is one error with its remedies."""

from pathlib import Path

from insphere.errors import DatasetNotFoundError


def download(repository: str, file: str, *, subject: str, looked_for: str, remedy: str) -> Path:
    """Return the local path of a file of a data set's repository, downloaded if it is not cached.

    Parameters
    ----------
    repository, file : str
        Where the hub has it.
    subject : str
        What the data set is called in messages.
    looked_for, remedy : str
        What the local search looked for, and what to do to succeed with it.

    Raises
    ------
    DatasetNotFoundError
        If `huggingface_hub` is not installed or the download fails.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise DatasetNotFoundError(
            f"{subject} is not found: {looked_for}. {remedy}, or install the download with `pip install 'insphere[hub]'`."
        ) from error
    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset"))
    # The hub's client raises errors of several HTTP libraries, of the disk and its own; offline they all mean the same.
    except Exception as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatasetNotFoundError(
            f"{subject} is not found: {looked_for}, and the download of {file} from {repository} failed ({first_line}). "
            f"{remedy}, or connect to the network and try again."
        ) from error
