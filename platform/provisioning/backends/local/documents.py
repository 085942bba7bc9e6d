"""Reports as JSON, between the supervisor and its client."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from provisioning.backends import contract
from provisioning.backends.contract import (
    Autoscaling,
    BackendError,
    ContainerReport,
    ContainerState,
    DeploymentRef,
    DeploymentReport,
    GrantedSession,
    PrimingReport,
    ReportedState,
)

ERRORS: dict[str, type[BackendError]] = {
    error.__name__: error
    for error in (
        contract.BackendError,
        contract.DeploymentRefused,
        contract.DeploymentUnknown,
        contract.SessionUnavailable,
        contract.AtCapacity,
        contract.CredentialsRefused,
    )
}


def to_document(report: DeploymentReport | GrantedSession | PrimingReport) -> dict[str, Any]:
    return dataclasses.asdict(report)


def deployment_report(document: dict[str, Any]) -> DeploymentReport:
    return DeploymentReport(
        **{
            **document,
            "ref": DeploymentRef(**document["ref"]),
            "state": ReportedState(document["state"]),
            "autoscaling": Autoscaling(**document["autoscaling"]) if document["autoscaling"] else None,
            "containers": tuple(_container_report(each) for each in document["containers"]),
        }
    )


def read_autoscaling(document: dict[str, Any]) -> Autoscaling:
    """Return the limits of a request.

    Raises:
        TypeError, ValueError: they are not whole numbers of zero and more, or not the known ones.
    """
    autoscaling = Autoscaling(**document)
    for name, value in dataclasses.asdict(autoscaling).items():
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} must be a whole number of zero or more, not {value!r}")
    return autoscaling


def _container_report(document: dict[str, Any]) -> ContainerReport:
    times = {
        name: datetime.datetime.fromisoformat(document[name]) if document[name] else None
        for name in ("started_at", "ready_at", "stopped_at")
    }
    return ContainerReport(**{**document, "state": ContainerState(document["state"]), **times})


def priming_report(document: dict[str, Any]) -> PrimingReport:
    return PrimingReport(
        boots=tuple(document["boots"]), boot_ms=tuple(document["boot_ms"]), failures=tuple(document["failures"])
    )


def error_document(error: BackendError) -> dict[str, Any]:
    return {"error": type(error).__name__, "sentence": error.sentence, "permanent": error.permanent}


def read_error(document: dict[str, Any]) -> BackendError:
    kind = ERRORS.get(str(document.get("error")), BackendError)
    return kind(str(document.get("sentence", "The supervisor failed.")), permanent=bool(document.get("permanent")))
