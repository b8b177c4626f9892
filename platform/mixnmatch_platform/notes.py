"""What MLflow shows as the description of an experiment and of its runs, in Markdown."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from mixnmatch.config import RunConfig
from mixnmatch.settings import flatten

__all__ = ["NOTE_TAG", "experiment_note", "refit_note", "run_note", "sweep_note", "trial_note"]

NOTE_TAG = "mlflow.note.content"
"""Tag whose text MLflow shows as a description."""
FIGURES = (
    (
        "`disentanglement_accuracy`",
        "higher",
        "on drawn pictures: share of factors in mixes that are those of the picture each was taken "
        "from; `chance/disentanglement_accuracy` is its chance level",
    ),
    ("`feature_disentanglement_accuracy`", "higher", "the same in feature mode, after stage 2"),
    ("`leak`", "lower", "how much a factor depends on a picture it was not taken from, at most"),
    (
        "`fid`, `fid_5k`, `frechet_…`, `kid_…`",
        "lower",
        "how far generated pictures are from real ones",
    ),
    (
        "`precision_…`, `recall_…`, `inception_score_…`",
        "higher",
        "how good, and how varied, generated pictures are",
    ),
    ("`mask_…`", "higher", "how well the object is told from its background"),
)
"""Main figures as an experiment's description explains them: name, direction and meaning."""


def experiment_note(name: str) -> str:
    """Of an experiment: how to read its figures, and how to look at its runs."""
    figures = "\n".join(f"| {name} | {better} | {tells} |" for name, better, tells in FIGURES)
    return f"""\
**`platform compare {quote(name)}`** ranks these runs in a terminal,
**`platform report {quote(name)} --out report.html`** makes a page of them. Here, *Views* has one of
each sweep: its table with objectives and settings, the best trial first, and as charts (the button
above the table) the objectives against each other, settings beside objectives, and the trials'
pictures.

### Figures

Those without a slash sum up a model, by its last evaluation:

| figure | better | what it tells |
| --- | --- | --- |
{figures}

`low/…` and `high/…` are the ends of a figure's 95 % interval, `chance/…` is what a model that knows
nothing gets. `accuracy/…` and `leak/…` are the parts of the means above. `training/…` is measured
within the training, on fewer pictures; `stage1/…` and `stage2/…` are losses, `watch/…` masks,
`cost/…` and `system/…` what machines do. Step 0 is the untrained model: it is all that a run which
has not come far may show.

**Figures compare if they were measured alike**: in runs with the same tag `mixnmatch.protocol`.
Those that depend on the number of pictures have it in their names (`fid_5k`,
`frechet_factors_1024`).

### Comparing

Tick some runs and press *Compare*: the settings in which they differ are chosen already, figures
are chosen under *Metrics*. The pictures that a run made as it learned are on its page, under *Model
metrics*: search for `samples` there, and enlarge them."""


def sweep_note(experiment: str, description: str) -> str:
    """Of a sweep's own run.

    Args:
        experiment: Its experiment.
        description: What it does, as ``--dry-run`` says it.
    """
    return f"""\
A sweep; its trials are nested below it. The figures of this run are those of its best trial, or of
the model that was trained on from it; the tag `mixnmatch.best` names the best trials.

```
{description}
```

```
platform compare {quote(experiment)}
platform report {quote(experiment)} --out report.html
platform resume {quote(experiment)}
```"""


def trial_note(experiment: str, name: str, settings: Mapping[str, Any]) -> str:
    """Of a trial.

    Args:
        experiment: Its experiment, which is called as its sweep.
        name: Of its run.
        settings: What was proposed, and what follows from it.
    """
    return f"""\
A trial of the sweep `{experiment}`. What was proposed for it:

{_table(settings)}

{_look(experiment, name)}"""


def refit_note(
    experiment: str, name: str, trial: str, settings: Mapping[str, Any], steps: int
) -> str:
    """Of the best trial trained on.

    Args:
        experiment: Its experiment, which is called as its sweep.
        name: Of its run.
        trial: Name of the trial.
        settings: Of the trial.
        steps: Of stage 1, the trial's included.
    """
    return f"""\
`{trial}`, the best trial of the sweep `{experiment}`, trained on to {steps:,} steps of stage 1; its
steps go on from those of the trial. What was proposed for that one:

{_table(settings)}

{_look(experiment, name)}"""


def run_note(experiment: str, name: str, config: RunConfig, data: Path | str) -> str:
    """Of a run by itself: the settings that are not the defaults.

    Args:
        experiment: Its experiment.
        name: Of the run.
        config: Its configuration.
        data: Its data set.
    """
    usual = flatten(RunConfig())
    other = {key: value for key, value in flatten(config).items() if value != usual[key]}
    settings = (
        f"Settings that are not the defaults:\n\n{_table(other)}"
        if other
        else "All settings are the defaults."
    )
    return f"""\
Trained on `{data}`. {settings}

{_look(experiment, name)}"""


def _look(experiment: str, name: str) -> str:
    return f"""\
The pictures that it made as it learned are under *Model metrics*, by step: search for `samples`
there. The model is the artifact `bundle`.

```
platform compare {quote(experiment)} --between {quote(name)} OTHER
platform promote --experiment {quote(experiment)} --run {quote(name)} --metric METRIC --model NAME
```"""


def _table(settings: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| `{key}` | {_value(value)} |" for key, value in settings.items())
    return f"| setting | value |\n| --- | --- |\n{rows}"


def _value(value: Any) -> str:
    return (
        f"{value:.4g}" if isinstance(value, float) else f"`{value}`" if value == "" else str(value)
    )
