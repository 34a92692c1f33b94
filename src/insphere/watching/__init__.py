"""Files are scored as they arrive, each once, whatever happens to the process; anomalies and drift are told to whoever asked."""

from insphere.watching.journal import JOURNAL_SUFFIXES, open_journal
from insphere.watching.notify import Command, Webhook
from insphere.watching.watcher import Watcher, WatchOptions, WatchSummary

__all__ = ["JOURNAL_SUFFIXES", "Command", "WatchOptions", "WatchSummary", "Watcher", "Webhook", "open_journal"]
