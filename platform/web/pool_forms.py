"""Forms of the pools' pages: a pool's settings, its warm hours, and where callers are."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator

from gpu_workers.kinds import KINDS
from provisioning import prices
from provisioning.backends import BACKENDS
from provisioning.models import Pool
from provisioning.models.pools import Worker
from provisioning.regions import REGIONS
from provisioning.warm_hours import DAYS, MOST_CONTAINERS, MOST_WINDOWS

SCALE = ("min_containers", "buffer_containers", "max_containers", "scaledown_window_seconds")
RARE = ("image", "checkpoint", "startup_timeout_seconds", "exit_grace_seconds")
MACHINE = ("sessions_per_container", "gpu", "cpu_millicores", "memory_mib", "snapshots", *RARE)
PLACE = ("worker", "region", "backend")
NAME = re.compile(r"[\w][\w.:/@-]*", re.ASCII)


class PoolForm(forms.Form):
    """The settings of a pool that its tenant chooses; a new pool is also given its place."""

    LABELS = {
        "min_containers": ("Always warm", "Ready before anybody calls. They cost money while they wait."),
        "buffer_containers": ("In reserve", "Idle ones started ahead while there are calls."),
        "max_containers": ("At most", "When these are full, callers are told that the line is busy."),
        "scaledown_window_seconds": ("Stopped when idle for", ""),
        "sessions_per_container": ("Calls on one container", ""),
        "gpu": ("GPU", "One, or several by preference, as L4, A10. Empty: the CPU alone."),
        "cpu_millicores": ("CPU", "1000 are one core."),
        "memory_mib": ("Memory", ""),
        "snapshots": ("Restore from a snapshot", "New containers begin with their models loaded."),
        "image": ("Image", "Name and version. Empty: this version's own."),
        "checkpoint": ("Weights", "Empty: the worker's own."),
        "startup_timeout_seconds": ("May start for", "Then the container is given up."),
        "exit_grace_seconds": ("Calls may go on for", "When their container is stopped."),
        "worker": ("Worker", "The engine of the agents that it serves, or a part of one."),
        "region": ("Region", "Near the callers."),
        "backend": ("Backend", ""),
        "is_shared": ("Shared", "It serves every tenant that has no pool of its own."),
    }

    def __init__(self, *args: Any, pool: Pool | None = None, is_operators: bool = False, **kwargs: Any) -> None:
        """`pool`: the one to be changed, None for a new one. `is_operators`: who runs this installation has it."""
        super().__init__(*args, **kwargs)
        self.pool, self.is_operators = pool, is_operators
        place = (*PLACE, "is_shared") if is_operators else PLACE
        self.fields |= forms.fields_for_model(Pool, fields=(*SCALE, *MACHINE) if pool else (*place, *SCALE, *MACHINE))
        for name, field in self.fields.items():
            field.label, field.help_text = self.LABELS[name]
        self.fields["gpu"].widget.attrs["list"] = "gpus"
        if pool is None:
            self.fields["gpu"].help_text = "One, or several by preference, as L4, A10. Empty: what the worker needs."
            workers = [(kind.value, kind.label) for kind in Worker if kind.value in KINDS]
            self.fields["worker"].choices = workers  # type: ignore[attr-defined]
            if len(BACKENDS) == 1:
                self.fields["backend"].widget = forms.HiddenInput()

    @classmethod
    def of_pool(cls, pool: Pool, *, is_operators: bool = False) -> PoolForm:
        values = {name: getattr(pool, name) for name in (*SCALE, *MACHINE)}
        return cls(pool=pool, is_operators=is_operators, initial=values)

    @property
    def chosen(self) -> dict[str, Any]:
        """What is said of a new pool. The machine that was left as it was is the one that its worker needs there."""
        left = set(MACHINE) - set(self.changed_data)
        return {name: value for name, value in self.cleaned_data.items() if name not in left}

    @property
    def has_rare_errors(self) -> bool:
        """Whether something is wrong in what is folded away."""
        return not self.errors.keys().isdisjoint(RARE)

    @property
    def gpus(self) -> tuple[str, ...]:
        return prices.gpu_names()

    def clean_image(self) -> str:
        return self._name_of("image")

    def clean_checkpoint(self) -> str:
        return self._name_of("checkpoint")

    def _name_of(self, field: str) -> str:
        """Return a name as it was typed: only who runs this installation names folders of its machines."""
        name = str(self.cleaned_data[field]).strip()
        is_as_before = self.pool is not None and name == getattr(self.pool, field)
        is_plain = NAME.fullmatch(name) and ".." not in name.split("/")
        if name and not is_as_before and not is_plain and not self.is_operators:
            raise ValidationError("This is no name: letters, digits and . : / @ - are.")
        return name

    def take_over(self, problem: ValidationError) -> None:
        """Show what a journey refused beside the fields that it is about."""
        by_field = problem.message_dict if hasattr(problem, "error_dict") else {"__all__": problem.messages}
        for name, sentences in by_field.items():
            for sentence in sentences:
                self.add_error(name if name in self.fields else None, sentence)


class WindowForm(forms.Form):
    """One window of the warm hours; one without days is none."""

    days = forms.TypedMultipleChoiceField(
        choices=list(enumerate(DAYS)), coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )
    begins_at = forms.TimeField(
        label="From", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"), initial="08:00"
    )
    ends_at = forms.TimeField(
        label="until", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"), initial="18:00"
    )
    min_containers = forms.IntegerField(
        label="Warm", initial=1, validators=[MinValueValidator(0), MaxValueValidator(MOST_CONTAINERS)]
    )
    buffer_containers = forms.IntegerField(
        label="In reserve", initial=0, validators=[MinValueValidator(0), MaxValueValidator(MOST_CONTAINERS)]
    )

    @property
    def document(self) -> dict[str, Any]:
        chosen = self.cleaned_data
        return {**chosen, "begins_at": f"{chosen['begins_at']:%H:%M}", "ends_at": f"{chosen['ends_at']:%H:%M}"}


class WindowForms(
    forms.formset_factory(WindowForm, extra=1, max_num=MOST_WINDOWS, absolute_max=MOST_WINDOWS)  # type: ignore[misc]
):
    """The windows of a pool, and an empty one for another."""

    @classmethod
    def of_pool(cls, pool: Pool) -> WindowForms:
        return cls(initial=pool.warm_hours)

    def documents(self, *, without: str = "") -> list[dict[str, Any]]:
        """Return what is to be kept. `without`: the prefix of a window that is removed."""
        return [form.document for form in self if form.cleaned_data.get("days") and form.prefix != without]


class RegionForm(forms.Form):
    """Where a tenant's callers mostly are."""

    region = forms.ChoiceField(
        label="Where most callers are",
        choices=[
            ("local", "Near this installation"),
            *((name, label) for name, label in REGIONS.items() if name != "local"),
        ],
        help_text="Calls are held near it where nothing tells where a caller is.",
    )
