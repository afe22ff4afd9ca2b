"""The examples in docs/examples against the schemas of Kubernetes and of Argo Workflows."""

import pathlib
import sys

import kubernetes_validate
import yaml
from hera.workflows.models import Workflow

from ledger import Ledger

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "examples"


def lost(given, kept, place=""):
    """Paths of what the schema does not know: a model drops it."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                yield f"{place}.{key}"
            else:
                yield from lost(value, kept[key], f"{place}.{key}")
    elif isinstance(given, list):
        for number, (value, other) in enumerate(zip(given, kept)):
            yield from lost(value, other, f"{place}[{number}]")


def refused(document):
    try:
        kubernetes_validate.validate(document, "1.30", strict=True)
    except kubernetes_validate.ValidationError:
        return True


def known(document):
    """The members of a workflow that Argo does not know."""
    kept = Workflow.model_validate(document).model_dump(mode="json", by_alias=True, exclude_none=True)
    return list(lost(document, kept))


ledger = Ledger("schemas", sys.argv[1], str)
for each in yaml.safe_load_all((EXAMPLES / "kubernetes-job.yaml").read_text()):
    ledger.does("Kubernetes", each["kind"], lambda: kubernetes_validate.validate(each, "1.30", strict=True))
each["spec"]["templates"] = {}
ledger.does("Kubernetes", "a slip is found", lambda: refused(each), True)
workflow = yaml.safe_load((EXAMPLES / "argo-workflow.yaml").read_text())
ledger.does("Argo Workflows", "every member is known", lambda: known(workflow), [])
workflow["spec"]["templates"][0]["dagg"] = 1
ledger.does("Argo Workflows", "a slip is found", lambda: known(workflow), [".spec.templates[0].dagg"])
