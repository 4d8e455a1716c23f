"""The tables of a study's report."""

from freezeframe.evaluation import intervals
from freezeframe.report.language import Language
from freezeframe.report.study_words import (
    axis_title,
    label,
    metric_title,
    metric_word,
    probability,
    setting_name,
    several,
)
from freezeframe.report.tables import Cell, Estimate, Quantity, Table
from freezeframe.study.beside import Beside
from freezeframe.study.findings import Findings
from freezeframe.study.remedies import MOVED, SHOWN
from freezeframe.study.settings import MAIN, Setting


def shown_metrics(findings: Findings) -> tuple[str, ...]:
    """Name the metrics that have a table each: the study's own first."""
    return tuple(dict.fromkeys((findings.results.metric, *MAIN)))


def grids(findings: Findings, language: Language) -> list[tuple[str, Table]]:
    """Make the tables of test scores, each with its title: one a metric, or one of all for a single axis."""
    if len(several(findings)) < 2:
        return [("", levels(findings, language))]
    return [
        (metric_title(metric, language), grid(findings, metric, language))
        for metric in shown_metrics(findings)
    ]


def levels(findings: Findings, language: Language) -> Table:
    """Tabulate a study of one axis: its labels down, the main metrics across; the best is marked."""
    shown = shown_metrics(findings)
    axes = several(findings)
    rows = tuple(
        (
            setting_name(setting, findings, language),
            *(_grid_cell(findings, setting, metric, language) for metric in shown),
        )
        for setting in findings.settings
    )
    first = axis_title(axes[0], language) if axes else language.text("study_setting")
    return Table(
        "grid",
        language.text("study_levels_caption", interval=_interval_kind(findings, language)),
        (first, *(metric_title(metric, language) for metric in shown)),
        rows,
        language.text("study_grid_note"),
    )


def grid(findings: Findings, metric: str, language: Language) -> Table:
    """Tabulate a test metric as papers do: depths across, all other axes down; the best is marked."""
    axes = findings.results.axes
    across = "unfreeze" if "unfreeze" in several(findings) else several(findings)[-1]
    down = [axis for axis in several(findings) if axis != across]
    rows: dict[tuple[str, ...], dict[str, Setting]] = {}
    for setting in findings.settings:
        place = tuple(label(setting.values.get(axis, ""), language) for axis in down)
        rows.setdefault(place, {})[setting.values.get(across, "")] = setting
    return Table(
        f"grid_{metric.replace('/', '_')}",
        language.text(
            "study_grid_caption",
            metric=metric_title(metric, language),
            interval=_interval_kind(findings, language),
        ),
        (*(axis_title(axis, language) for axis in down), *(label(one, language) for one in axes[across])),
        tuple(
            (*place, *(_grid_cell(findings, own.get(one), metric, language) for one in axes[across]))
            for place, own in rows.items()
        ),
        language.text("study_grid_note"),
    )


def _grid_cell(findings: Findings, setting: Setting | None, metric: str, language: Language) -> Cell:
    if setting is None:
        return Estimate(None)
    if not setting.cells:
        states = {cell.status for cell in findings.results.settings[setting.name]}
        state = next(state for state in ("failed", "pruned", "begun", "waiting") if state in states)
        return Quantity(None, language.text(f"study_state_{state}"))
    found = estimate(setting.test.get(metric))
    if setting is findings.best:
        return Estimate(found.value, found.low, found.high, mark="best")
    equal = setting in findings.indistinguishable
    return Estimate(found.value, found.low, found.high, mark="equal" if equal else "")


def settings(findings: Findings, language: Language) -> Table:
    """List every setting, the best on validation first, with its scores and what it costs."""
    metric = findings.results.metric
    shown = tuple(dict.fromkeys((metric, *MAIN)))
    unscored = [setting for setting in findings.settings if setting not in findings.ranked]
    rows: list[tuple[Cell, ...]] = [
        (
            setting_name(setting, findings, language),
            language.text("study_repeats_of", done=len(setting.cells), planned=setting.planned),
            setting.validation.get(metric),
            *(estimate(setting.test.get(name)) for name in shown),
            *cost_cells(setting, language),
        )
        for setting in (*findings.ranked, *unscored)
    ]
    columns = [
        language.text("study_setting"),
        language.text("study_repeats"),
        language.text("study_validation", metric=metric_title(metric, language)),
        *(metric_title(name, language) for name in shown),
        *(language.text(f"study_cost_{kind}") for kind in ("parameters", "seconds", "memory")),
    ]
    return Table("settings", language.text("study_settings_caption"), tuple(columns), tuple(rows))


def cost_cells(setting: Setting, language: Language) -> tuple[Quantity, Quantity, Quantity]:
    """Write a setting's trained parameters, seconds and memory."""
    parameters, seconds, memory = (setting.costs[kind] for kind in ("parameters", "seconds", "memory"))
    share = (
        parameters / setting.total_parameters if parameters is not None and setting.total_parameters else None
    )
    whole = None if parameters is None else int(parameters)
    return (
        Quantity(
            whole,
            language.number(None) if whole is None else language.integer(whole),
            "" if share is None else language.percent(share),
        ),
        Quantity(seconds, language.duration(seconds)),
        Quantity(memory, language.size(memory)),
    )


def comparisons(findings: Findings, metric: str, language: Language) -> Table:
    """List each setting's difference from the best, with p values, the best on validation first."""
    found = findings.against_best[metric]
    rows: list[tuple[Cell, ...]] = []
    for setting in findings.ranked:
        if setting.name not in found.comparisons:
            continue
        one = found.comparisons[setting.name]
        p = one.p_retrained if found.retrained else one.p
        adjusted = found.adjusted[setting.name]
        rows.append(
            (
                setting_name(setting, findings, language),
                estimate(setting.test.get(metric)),
                Estimate(one.difference, one.low, one.high, signed=True),
                Quantity(p, probability(p, language)),
                Quantity(adjusted, probability(adjusted, language)),
                language.text(
                    "study_told_short" if setting.name not in found.indistinguishable else "study_open_short"
                ),
            )
        )
    title = metric_title(metric, language)
    columns = (
        language.text("study_setting"),
        title,
        language.text("study_difference"),
        language.text("study_p"),
        language.text("study_adjusted"),
        language.text("study_verdict"),
    )
    best = findings.best
    name = setting_name(best, findings, language) if best else ""
    return Table(
        f"comparisons_{metric}",
        language.text("study_comparisons_caption", metric=title, best=name),
        columns,
        tuple(rows),
        language.text("study_retrained_note" if found.retrained else "study_trained_note"),
    )


def effects(findings: Findings, language: Language) -> Table:
    """List what each level of each axis changes, all else equal."""
    rows = tuple(
        (
            axis_title(effect.axis, language),
            language.text(
                "study_instead_of",
                level=label(effect.level, language),
                reference=label(effect.reference, language),
            ),
            Estimate(effect.difference.value, effect.difference.low, effect.difference.high, signed=True),
            effect.pairs,
        )
        for effect in findings.effects
    )
    columns = ("study_axis", "study_change", "study_difference", "study_pairs")
    return Table(
        "effects",
        language.text("study_effects_caption", metric=metric_word(findings.compared, language)),
        tuple(language.text(name) for name in columns),
        rows,
        language.text("study_effects_note"),
    )


def beside(findings: Findings, language: Language) -> Table:
    """List baselines and ensembles with their difference from the best setting."""
    metric = findings.compared
    rows: list[tuple[Cell, ...]] = []
    for one in findings.beside:
        details, comparison = one.extra.details, one.comparison
        stages = details.get("seconds") or {}
        seconds = stages.get("training", stages.get("total"))
        difference = (
            Estimate(comparison.difference, comparison.low, comparison.high, signed=True)
            if comparison
            else Estimate(None)
        )
        rows.append(
            (
                _name(findings, one),
                _what(one.extra.kind, dict(details), language),
                one.validation,
                estimate(one.test),
                difference,
                Quantity(one.adjusted, probability(one.adjusted, language)),
                Quantity(seconds, language.duration(seconds)),
            )
        )
    if findings.best is not None:
        best, name = findings.best, setting_name(findings.best, findings, language)
        score = estimate(best.test.get(metric))
        own = Estimate(score.value, score.low, score.high, mark="best")
        seconds = best.costs["seconds"]
        row = (
            name,
            language.text("study_best_setting"),
            best.validation.get(metric),
            own,
            Estimate(None, signed=True),
        )
        rows.append(
            (*row, Quantity(None, language.number(None)), Quantity(seconds, language.duration(seconds)))
        )
    title = metric_title(metric, language)
    columns = (
        language.text("study_name"),
        language.text("study_what"),
        language.text("study_validation", metric=title),
        title,
        language.text("study_difference"),
        language.text("study_adjusted"),
        language.text("study_cost_seconds"),
    )
    return Table("beside", language.text("study_beside_caption", metric=title), columns, tuple(rows))


def _name(findings: Findings, one: Beside) -> str:
    """Name a baseline by its network, unless another of the same method has the same one; else by its folder."""
    keys = [
        (other.extra.details.get("backbone"), other.extra.details.get("method")) for other in findings.beside
    ]
    own = (one.extra.details.get("backbone"), one.extra.details.get("method"))
    plain = one.extra.kind == "baseline" and own[0] and keys.count(own) == 1
    return str(own[0]) if plain else one.extra.name


def _what(kind: str, details: dict, language: Language) -> str:
    if kind == "ensemble":
        rule = str(details.get("rule", ""))
        return language.text(
            "study_ensemble_of",
            count=len(details.get("members", ())),
            rule=language.known(f"rule_{rule}", rule),
        )
    method = str(details.get("method", ""))
    said = language.known(f"study_method_{method}", method)
    components = details.get("components")
    return (
        said if components is None else language.text("study_components", method=said, count=int(components))
    )


def remedies(findings: Findings, language: Language) -> Table:
    """Compare the remedies against unequal classes."""
    titles = {"minority_f1": language.text("study_minority_f1", minority=findings.remedies[0].minority)}
    rows = tuple(
        (
            language.text("study_threshold_moved") if one.name == MOVED else label(one.name, language),
            *(estimate(one.scores[name]) for name in SHOWN),
            one.runs,
        )
        for one in findings.remedies
    )
    columns = (
        language.text("axis_imbalance"),
        *(titles.get(name) or metric_title(name, language) for name in SHOWN),
        language.text("study_runs"),
    )
    return Table(
        "imbalance",
        language.text("study_imbalance_caption"),
        columns,
        rows,
        language.text("study_imbalance_note"),
    )


def unfinished(findings: Findings, language: Language) -> Table | None:
    """List the cells without results, with the error of those that failed; one given up ended as it should."""
    rows = tuple(
        (
            cell.name,
            language.text(f"study_state_{cell.status}"),
            str(cell.failure.get("error", "")),
            int(cell.failure.get("attempts", 0)) or None,
        )
        for status in ("failed", "begun", "waiting")
        for cell in findings.results.cells
        if cell.status == status
    )
    if not rows:
        return None
    columns = ("study_training", "study_state", "study_error", "study_attempts")
    return Table(
        "unfinished",
        language.text("study_unfinished_caption"),
        tuple(language.text(name) for name in columns),
        rows,
    )


def effort(findings: Findings, language: Language) -> Table | None:
    """Compare what was planned with what was measured."""
    plan, progress = findings.results.plan, findings.results.progress
    trained = [
        float(seconds)
        for cell in findings.results.finished
        if (seconds := (cell.run.get("seconds") or {}).get("training")) is not None
    ]
    seconds = {
        "planned": plan.get("seconds"),
        "measured": progress.get("seconds"),
        "training": sum(trained) if trained else None,
        "naive": plan.get("naive_seconds"),
    }
    rows: list[tuple[Cell, ...]] = [
        (language.text(f"study_effort_{name}"), Quantity(value, language.duration(value)))
        for name, value in seconds.items()
        if value is not None
    ]
    if not rows:
        return None
    if plan.get("prefix_images") is not None:
        images = int(plan["prefix_images"])
        rows.append((language.text("study_effort_images"), Quantity(images, language.integer(images))))
    if plan.get("store_bytes") is not None:
        rows.append(
            (language.text("disk"), Quantity(plan["store_bytes"], language.size(plan["store_bytes"])))
        )
    columns = (language.text("study_quantity"), language.text("study_value"))
    return Table("effort", language.text("study_effort_caption"), columns, tuple(rows))


def estimate(found: intervals.Estimate | None) -> Estimate:
    """Take an estimate of the evaluation into a table's cell."""
    return Estimate(found.value, found.low, found.high) if found else Estimate(None)


def _interval_kind(findings: Findings, language: Language) -> str:
    if any(cell.fold is not None for cell in findings.results.cells):
        return language.text("study_over_folds")
    single = all(len(setting.cells) <= 1 for setting in findings.settings)
    return language.text("study_over_patients" if single else "study_over_seeds")
