"""What insphere checks of itself, for anybody's detector: does it learn, do scores hold still, is its rate of alarms what it says."""

from insphere.audit.auditing import audit
from insphere.audit.findings import LEVELS, AuditFinding, AuditReport

__all__ = ["LEVELS", "AuditFinding", "AuditReport", "audit"]
