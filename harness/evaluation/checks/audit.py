"""What the audit of an ensemble says of its number."""

from harness.attacks.strong import FEWEST_CLASSES
from harness.evaluation.checks.base import Reason, Row, remark
from harness.metrics import audit_bound


def audited(row: Row) -> Reason | None:
    """How many examples the standard was run on without success, and how much it may still take: a remark.

    Source: the standard is Croce and Hein 2020, https://arxiv.org/abs/2003.01690, section 6; the bound is that of
        `harness.metrics.audit_bound`.
    """
    found = row.evidence.audit
    if found is None:
        return None
    standard = "AutoAttack standard" if row.clean_logits.shape[1] >= FEWEST_CLASSES else "AutoAttack standard without APGD-T"
    before = ""
    if found.escalated:
        stages = " and ".join(found.escalated)
        before = f"{standard} broke {found.broken} in samples, so {stages} attacked all survivors; then "
    if not found.survivors:
        return remark(f"audited: {before}no example survives")
    lost = 100 * audit_bound(found.sampled, found.survivors) / len(row.labels)
    bound = "all of them" if found.sampled == found.survivors else f"at most {lost:.1f} points less"
    return remark(f"audited: {before}{standard} broke 0 of {found.sampled} survivors, {bound}")


AUDIT = (audited,)
"""All checks of this file."""
