"""Logs as JSON lines on standard error: one for each request and event. Headers, keys and file names never get in."""

import datetime
import json
import logging
import sys
from typing import TextIO


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON: time, level, event, and the facts that came with it.

    Examples
    --------
    >>> record = logging.makeLogRecord({"msg": "model reloaded", "levelname": "INFO", "created": 0.0, "facts": {"model": "tiles"}})
    >>> JsonFormatter().format(record)
    '{"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "event": "model reloaded", "model": "tiles"}'
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        # ASCII, so that nothing a client sends can move the cursor of a terminal.
        return json.dumps(line, default=str)


def log_to(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write the log of the service and its server, Python's warnings, and troubles of all other libraries as JSON lines.

    Parameters
    ----------
    stream : file, optional
        Standard error if not given.
    level : int
        Least level of the service's own log.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    logging.captureWarnings(True)
    # Of what the server has to say of its own starts and stops, only troubles: the service logs those itself.
    troubles = max(level, logging.WARNING)
    for name, least in (("insphere.serving", level), ("uvicorn", troubles), ("py.warnings", level)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
    # What reaches the root has no handler of its own, and Python would print it as bare text (a parser on a malformed header, say).
    if not logging.root.handlers:
        logging.root.addHandler(handler)
        logging.root.setLevel(troubles)
