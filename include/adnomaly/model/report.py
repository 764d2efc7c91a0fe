"""An evaluation as a table to read, and as plain figures to chart."""

from adnomaly.model.evaluate import Evaluation


def as_text(found: Evaluation) -> str:
    """A line per detector, then the calibrated forest as it would run."""
    lines = [f"{'detector':<26}{'ROC':>7}{'PR':>7}{'R@1/wk':>8}{'R@1/d':>8}{'delay':>8}"]
    for name, judged in found.detectors.items():
        delay = "-" if judged.delay_minutes is None else f"{judged.delay_minutes:.0f} min"
        figures = f"{judged.roc_auc:>7.3f}{judged.pr_auc:>7.3f}{judged.recall_per_week:>8.3f}{judged.recall_per_day:>8.3f}{delay:>8}"
        lines.append(f"{name:<26}{figures}")
    lines.append(
        f"{found.attacks} attacks and {found.benign} promotions in {found.days:.0f} days; chance has a PR of {found.base_rate:.3f}"
    )
    for kind, at in (("entity", found.entity), ("global", found.pooled)):
        lines.append(
            f"at the {kind} threshold: recall {at.recall:.3f}, {at.quiet_incidents_per_day:.2f} false incidents a day "
            f"(budget {found.budget_per_day:g}), {at.false_incidents_per_day:.2f} with promotions"
        )
    lines.append("caught by kind: " + ", ".join(f"{kind} {share:.2f}" for kind, share in found.entity.recall_by_kind.items()))
    return "\n".join(lines)


def figures(found: Evaluation) -> dict[str, float]:
    """Flat names for a tracking server, such as `max_abs_z.pr_auc` and `threshold.entity.recall`."""
    flat: dict[str, float] = {"base_rate": found.base_rate, "attacks": float(found.attacks)}
    for name, judged in found.detectors.items():
        values = {field: getattr(judged, field) for field in judged.__struct_fields__}
        flat |= {f"{name}.{field}": value for field, value in values.items() if value is not None}
    for kind, at in (("entity", found.entity), ("global", found.pooled)):
        for field in ("recall", "delay_minutes", "false_incidents_per_day", "quiet_incidents_per_day", "flagged_share"):
            value = getattr(at, field)
            if value is not None:
                flat[f"threshold.{kind}.{field}"] = value
    return flat | {f"recall.{kind}": share for kind, share in found.entity.recall_by_kind.items()}
